"""llama.cpp as a library: the few of its C functions that `llama_cpp` needs, from whatever package brings them.

1. The library is that of the package xllamacpp or llama-cpp-python, or one of the system's. None is needed unless this is used.
2. Parameters travel as blocks larger than any version's; only the first four numbers of a context's are written (tokens, batch,
   micro-batch, sequences), whose places are those of every version of 2024 to 2026. A library whose defaults there
   are not known is refused.
3. What it logs is kept and shown with a failure, and nowhere else.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadInput

PACKAGES = ("xllamacpp", "llama_cpp")
"""Packages that bring the library, by the names they are imported by."""
DEFAULTS = ((512, 2048, 512, 1),)
"""Tokens, batch, micro-batch and sequences of a context that nobody asked anything of."""
LOG = 40
"""Lines of the library's log that are kept."""
MISSING = "No llama.cpp library was found. Install one: pip install xllamacpp (or llama-cpp-python)."

Pointer = ctypes.c_void_p


class Parameters(ctypes.Structure):
    """Parameters of a model or a context: the library reads and writes as many bytes as its version has."""

    _fields_ = (("words", ctypes.c_uint32 * 256),)


class Batch(ctypes.Structure):
    """`llama_batch`; `later` is for fields that a later version may have."""

    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", Pointer),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
        ("later", ctypes.c_uint64 * 32),
    )


_LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, Pointer)
_INT, _TEXT, _FLAG = ctypes.c_int32, ctypes.c_char_p, ctypes.c_bool
FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_backend_init": (None, ()),
    "llama_model_default_params": (Parameters, ()),
    "llama_context_default_params": (Parameters, ()),
    "llama_model_load_from_file": (Pointer, (_TEXT, Parameters)),
    "llama_init_from_model": (Pointer, (Pointer, Parameters)),
    "llama_model_get_vocab": (Pointer, (Pointer,)),
    "llama_model_n_embd": (_INT, (Pointer,)),
    "llama_model_n_layer": (_INT, (Pointer,)),
    "llama_model_n_ctx_train": (_INT, (Pointer,)),
    "llama_model_free": (None, (Pointer,)),
    "llama_free": (None, (Pointer,)),
    "llama_vocab_n_tokens": (_INT, (Pointer,)),
    "llama_vocab_is_eog": (_FLAG, (Pointer, _INT)),
    "llama_set_n_threads": (None, (Pointer, _INT, _INT)),
    "llama_tokenize": (_INT, (Pointer, _TEXT, _INT, ctypes.POINTER(_INT), _INT, _FLAG, _FLAG)),
    "llama_detokenize": (_INT, (Pointer, ctypes.POINTER(_INT), _INT, _TEXT, _INT, _FLAG, _FLAG)),
    "llama_batch_init": (Batch, (_INT, _INT, _INT)),
    "llama_batch_free": (None, (Batch,)),
    "llama_decode": (_INT, (Pointer, Batch)),
    "llama_get_logits_ith": (ctypes.POINTER(ctypes.c_float), (Pointer, _INT)),
}
"""What each function returns and takes."""
CONTROL = ("llama_set_adapter_cvec", "llama_apply_adapter_cvec", "llama_control_vector_apply")
"""The function that sets a control vector, under the names it has had."""


class Library:
    """The C functions, typed."""

    def __init__(self, path: Path):
        """Raises BadInput for a file that is no such library."""
        self.path = path
        try:
            held = ctypes.CDLL(str(self.path))
        except OSError as error:
            raise BadInput(f"{self.path} cannot be loaded as a library: {error}.") from error
        for name, (returned, taken) in FUNCTIONS.items():
            function = getattr(held, name, None)
            if function is None:
                raise BadInput(f"{self.path} has no function {name}: no llama.cpp library, or one of before 2025.")
            function.restype, function.argtypes = returned, list(taken)
            setattr(self, name, function)
        named = next((name for name in CONTROL if hasattr(held, name)), None)
        if named is None:
            raise BadInput(f"{self.path} cannot set control vectors: it has none of {', '.join(CONTROL)}.")
        self.control = getattr(held, named)
        self.control.restype = _INT
        self.control.argtypes = [Pointer, ctypes.POINTER(ctypes.c_float), ctypes.c_size_t, _INT, _INT, _INT]
        self.log: list[str] = []
        self._keep = _LOG(self._said)
        held.llama_log_set.argtypes = [_LOG, Pointer]
        held.llama_log_set(self._keep, None)
        if hasattr(held, "ggml_backend_load_all"):
            held.ggml_backend_load_all()
        self.llama_backend_init()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def _said(self, level: int, text: bytes, _: Any) -> None:
        self.log = [*self.log[1 - LOG :], text.decode("utf-8", "replace").rstrip()]

    @property
    def last_words(self) -> str:
        """The library's last log line that says anything, for a sentence."""
        return next((line for line in reversed(self.log) if len(line) > 3), "it says nothing")


_OPEN: dict[Path, Library] = {}
"""Libraries stay open: what they call to log with must outlive every model."""


def library(path: Path | None = None) -> Library:
    """The library at `path`; by default it is looked for. Raises BadInput where there is none, for a file of another kind, and for a
    version whose parameters are not known."""
    where = path or found()
    if where not in _OPEN:
        _OPEN[where] = Library(where)
    first = tuple(_OPEN[where].llama_context_default_params().words[:4])
    if first not in DEFAULTS:
        raise BadInput(
            f"{where} is a version of llama.cpp whose parameters are not known here (defaults {first}, known {DEFAULTS}); "
            f"install xllamacpp, or write the plan with `steer plan export --format llama.cpp` for its own programs."
        )
    return _OPEN[where]


def found() -> Path:
    """The library's file. Raises BadInput where no package and no system library has it."""
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec is not None else []:
            for candidate in _candidates(Path(place)):
                return candidate
    named = find_library("llama")
    if named is None:
        raise BadInput(MISSING)
    return Path(named)


def _candidates(place: Path) -> Iterator[Path]:
    for pattern in ("lib/libllama.*", "lib/llama.dll", "xllamacpp*.so", "xllamacpp*.pyd"):
        yield from sorted(place.glob(pattern))


def as_floats(pointer: Any, count: int) -> np.ndarray:
    """`count` float32 numbers at a pointer of the library, not copied."""
    return np.ctypeslib.as_array(pointer, (count,))
