"""Single values of a GGUF file's header, read from front to back without the package and without keeping the rest in memory.

A header holds whole vocabularies; what asks for a model's width only need not hold them. The format: magic, version, number of tensors and
of entries; an entry is a name, a type and a value (ggml-org/ggml, docs/gguf.md).
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import BadInput

MAGIC = b"GGUF"
SIMPLE = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Types of one number, as `struct` has them."""
TEXT, LIST = 8, 9
LONGEST = 1 << 20
"""Bytes of a name or of a text that is read."""
MOST = 1 << 24
"""Entries of a header or a list that are looked through."""


def header_values(path: Path, endings: Collection[str]) -> dict[str, Any]:
    """Numbers and texts whose names end in one of `endings`, by their whole names, up to where each was found once. Raises BadInput for
    a file that is no GGUF file or is cut short."""
    found: dict[str, Any] = {}
    missing = set(endings)
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise BadInput(f"{path} is not a GGUF file: it does not begin with the letters GGUF.")
            _, _, entries = struct.unpack("<IQQ", file.read(20))
            for _ in range(min(entries, MOST)):
                if not missing:
                    break
                name, kind = _text(file), _number(file, "I")
                ending = next((one for one in missing if name.endswith(one)), None)
                if ending is None or kind == LIST:
                    _skip(file, kind)
                else:
                    found[name] = _text(file) if kind == TEXT else _number(file, SIMPLE[kind])
                    missing.discard(ending)
    except (OSError, struct.error, KeyError, UnicodeDecodeError, OverflowError) as error:
        raise BadInput(f"{path} is corrupt or cut short ({error}). Copy or export the file again.") from error
    return found


def _number(file: BinaryIO, kind: str) -> Any:
    return struct.unpack(f"<{kind}", file.read(struct.calcsize(f"<{kind}")))[0]


def _text(file: BinaryIO) -> str:
    length = _number(file, "Q")
    if length > LONGEST:
        raise struct.error(f"a text of {length} bytes")
    return file.read(length).decode()


def _skip(file: BinaryIO, kind: int) -> None:
    if kind == TEXT:
        file.seek(_number(file, "Q"), 1)
    elif kind == LIST:
        inner, count = _number(file, "I"), _number(file, "Q")
        if count > MOST:
            raise struct.error(f"a list of {count} values")
        if inner in SIMPLE:
            file.seek(count * struct.calcsize(f"<{SIMPLE[inner]}"), 1)
        else:
            for _ in range(count):
                _skip(file, inner)
    else:
        file.seek(struct.calcsize(f"<{SIMPLE[kind]}"), 1)
