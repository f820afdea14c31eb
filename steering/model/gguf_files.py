"""GGUF files, opened strictly.

1. A slice past the end of the file is an error and not a shorter slice, so a count that promises more than the file holds is refused before
   anything is read by it.
2. Whatever is wrong with a file gives one BadInput.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from ..errors import BadInput

MAGIC = b"GGUF"


class StrictReader(gguf.GGUFReader):
    """The package's reader, made strict."""

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
        # int(): counts come as uint64 scalars from the file, whose sums would wrap round.
        offset, count = int(offset), int(count)
        end = offset + count * np.dtype(dtype).itemsize
        if end > len(self.data):
            raise ValueError(f"it ends at byte {len(self.data)}, and something is promised up to byte {end}")
        return super()._get(offset, dtype, count, override_order)


def open_gguf(path: Path) -> StrictReader:
    """A file's metadata and tensors, none of which is read yet. Raises BadInput for one that is corrupt, cut short or no GGUF file."""
    with path.open("rb") as handle:
        if handle.read(len(MAGIC)) != MAGIC:
            raise BadInput(f"{path} is not a GGUF file: it does not begin with the letters GGUF.")
    try:
        return StrictReader(path)
    except Exception as error:  # the reader has no error type of its own: index, value, key, overflow and decode errors
        raise BadInput(f"{path} is corrupt or cut short ({error}). Copy or export the file again.") from error


def text_of(reader: StrictReader, key: str) -> str:
    """A field that holds text; empty where there is none."""
    field = reader.get_field(key)
    if field is None or field.types != [gguf.GGUFValueType.STRING]:
        return ""
    return bytes(field.parts[-1]).decode("utf-8", "replace")
