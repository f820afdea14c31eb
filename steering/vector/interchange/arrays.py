"""numpy arrays as pickles write them, rebuilt from their bytes.

1. numpy's own constructors are not called by a file: a pickled dtype may carry flags under which raw bytes are taken for pointers. The
   globals that a pickled array names are replaced by the ones here, which accept plain number types only.
2. `plain` turns what they built into numpy arrays, inside containers too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

_KIND = re.compile(r"f[248]|[iu][1248]|b1")


class Kind:
    """Stands for `numpy.dtype`: one number type and its byte order."""

    def __init__(self, code: str, *_: Any):
        if not isinstance(code, str) or _KIND.fullmatch(code) is None:
            raise ValueError(f"an array of {code!r}, which are not plain numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"byte order {order!r}")
        self.dtype = self.dtype.newbyteorder(order)


class Array:
    """Stands for `numpy.ndarray` until its bytes are read."""

    values: np.ndarray

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, kind, fortran, raw = state
        self.values = _values(raw, kind, shape, "F" if fortran else "C")


def _values(raw: Any, kind: Any, shape: Any, order: str) -> np.ndarray:
    if not isinstance(kind, Kind) or not isinstance(raw, (bytes, bytearray)):
        raise ValueError("an array that is not stored as plain bytes")
    # A copy: an array over the bytes themselves would be read-only.
    return np.frombuffer(raw, kind.dtype).reshape(shape, order="F" if order == "F" else "C").copy()


def _reconstruct(_class: Any, _shape: Any, _code: Any) -> Array:
    return Array()


def _frombuffer(raw: Any, kind: Any, shape: Any, order: str, *_: Any) -> Array:
    array = Array()
    array.values = _values(raw, kind, shape, order)
    return array


def _scalar(kind: Any, raw: Any) -> Any:
    return _values(raw, kind, (), "C").item()


GLOBALS: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": Array,
    "numpy.dtype": Kind,
    **{
        f"{package}.{name}": function
        for package in ("numpy._core", "numpy.core")
        for name, function in (
            ("multiarray._reconstruct", _reconstruct),
            ("multiarray.scalar", _scalar),
            ("numeric._frombuffer", _frombuffer),
        )
    },
}
"""What a pickled array names, and what is called instead."""


def plain(value: Any) -> Any:
    """`value` with every `Array` in its containers and fields replaced by a numpy array."""
    if isinstance(value, Array):
        return value.values
    if isinstance(value, dict):
        for key, item in value.items():
            value[key] = plain(item)
    elif isinstance(value, list):
        value[:] = [plain(item) for item in value]
    elif type(value) is tuple:
        return tuple(plain(item) for item in value)
    return value
