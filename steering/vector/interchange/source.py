"""The file a vector was imported from.

1. It is read whole and hashed, so that a vector can be traced to the very bytes.
2. Its name and hash, never its folder, go into the provenance.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import BadInput


@dataclass(frozen=True)
class Source:
    """A file to import from, as bytes."""

    path: Path
    content: bytes

    @staticmethod
    def read(path: Path | str) -> Source:
        """The whole file. Raises BadInput when there is none."""
        path = Path(path)
        if not path.is_file():
            raise BadInput(f"No file at {path}. Pass the path of the vector file itself.")
        return Source(path, path.read_bytes())

    def note(self, kind: str, **facts: Any) -> dict[str, Any]:
        """Provenance notes: `{"import": {file, sha256, format, ...}}`; facts that are empty are left out."""
        known = {key: fact for key, fact in facts.items() if fact not in (None, "", [])}
        digest = hashlib.sha256(self.content).hexdigest()
        return {"import": {"file": self.path.name, "sha256": digest, "format": kind, **known}}
