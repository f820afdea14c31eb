"""Pickled files (.pt, .pkl) without running what they ask for.

1. Only tensors, numpy arrays of numbers, numbers, text and plain containers are rebuilt. Every other global is refused by name, and
   nothing of it is imported or called.
2. `torch.save` files go through torch's weights-only loader with an explicit list for numpy arrays (`arrays`); plain pickles through an
   unpickler with a list of its own.
3. Objects of a foreign class are rebuilt only where the caller names the class, and then as a `Record`: fields without methods.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import BadInput
from . import arrays
from .source import Source

_TORCH_ZIP = b"PK\x03\x04"
_TORCH_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_LIST = threading.Lock()


class Record:
    """An object of a foreign class, as the fields that it was saved with."""


def load_plain(path: Path | str, *, classes: Collection[str] = ()) -> Any:
    """Content of a pickled file. `classes` names foreign classes ("module.Class") to rebuild as `Record`.

    Raises BadInput for a file that asks for anything else, naming it, and for a file that is corrupt, cut short or not pickled.
    """
    return unpickle(Source.read(path), classes=classes)


def unpickle(source: Source, *, classes: Collection[str] = ()) -> Any:
    """`load_plain` of a file that was read already."""
    data = source.content
    try:
        if data.startswith((_TORCH_ZIP, _TORCH_LEGACY)):
            return _plain(_torch_load(data, classes))
        if data[:1] == b"\x80":
            _check_opcodes(data)
            return _plain(_Unpickler(source, classes).load())
    except BadInput:
        raise
    except Exception as error:  # pickles of any bytes: the standard library promises no closed set of errors
        named = re.search(r"GLOBAL ((?:\w+\.)*\w+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if named:
            raise _refused(source, named[1] if "." in named[1] else f"builtins.{named[1]}") from None
        raise BadInput(f"{source.path} is corrupt or cut short ({_first_line(error)}). Copy the file again.") from error
    raise BadInput(
        f"{source.path} is not a pickled file (.pt, .pkl). SteeringVector.load reads safetensors, import_gguf reads GGUF."
    )


def as_tensor(value: Any, what: str) -> Tensor:
    """A tensor or numeric array as float32 on the CPU. Raises BadInput, naming `what`, for anything else."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        value = torch.from_numpy(np.array(value, dtype=np.float32))
    if not isinstance(value, Tensor) or value.is_complex() or value.layout != torch.strided or value.is_quantized:
        kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        raise BadInput(f"{what} is {kind}; a dense tensor or array of numbers is needed.")
    return value.detach().to("cpu", torch.float32)


def _torch_load(data: bytes, classes: Collection[str]) -> Any:
    allowed: list[Any] = [(function, name) for name, function in arrays.GLOBALS.items()]
    allowed += [(Record, name) for name in classes]
    # torch keeps one list for the whole process; two threads at once would take each other's names off it.
    with _LIST, torch.serialization.safe_globals(allowed):
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _check_opcodes(data: bytes) -> None:
    """Walks a pickle without building anything. Raises ValueError for sizes that the file cannot have, and for registry lookups."""
    # The unpickler takes a size on trust: it would fill memory up to a memo number, or a byte count, of four billion.
    for opcode, argument, _ in pickletools.genops(data):
        if "PUT" in opcode.name and isinstance(argument, int) and argument > len(data):
            raise ValueError(f"memo number {argument} in a file of {len(data)} bytes")
        if opcode.name.startswith("EXT"):
            raise ValueError("an object of this machine's extension registry")


class _Unpickler(pickle.Unpickler):
    """Rebuilds plain data only. Functions and classes are handed out wrapped, so that a file cannot set attributes on the real ones."""

    def __init__(self, source: Source, classes: Collection[str]):
        super().__init__(io.BytesIO(source.content))
        self._source = source
        self._records: dict[str, type[Record]] = {name: type("Record", (Record,), {}) for name in classes}

    def find_class(self, module: str, name: str) -> Any:
        # Protocol 2 writes the module by its Python 2 name.
        full = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if full in self._records:
            return self._records[full]
        if full in _TYPES:
            return _TYPES[full]
        if full in _FUNCTIONS:
            function = _FUNCTIONS[full]
            if isinstance(function, type):
                return type(name, (function,), {})
            return lambda *arguments: function(*arguments)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        raise _refused(self._source, full)


def _storage(data: bytes) -> Any:
    # torch's own `_load_from_bytes` unpickles its argument without any list.
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _latin1(text: str, encoding: str) -> bytes:
    # How pickle protocol 2 writes bytes. No other codec: looking one up imports a module by its name.
    if encoding != "latin1":
        raise ValueError(f"bytes encoded as {encoding!r}")
    return text.encode("latin1")


_TYPES: dict[str, type] = {
    "collections.OrderedDict": OrderedDict,
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "builtins.bytearray": bytearray,
    "torch.Size": torch.Size,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": torch._utils._rebuild_parameter,
    "torch.storage._load_from_bytes": _storage,
    "_codecs.encode": _latin1,
    **arrays.GLOBALS,
}


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        for name, field in vars(value).items():
            setattr(value, name, arrays.plain(field))
        return value
    return arrays.plain(value)


def _refused(source: Source, name: str) -> BadInput:
    return BadInput(
        f"{source.path} asks for {name} when it is unpickled, which is no tensor, array or plain container; refused, and not run. "
        "Ask its author for safetensors, or for a file that holds tensors only."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
