"""Checkpoints of a trainer, of which the last one may have been cut short by the end of its process.

Transformers writes a checkpoint file by file into its own place, `trainer_state.json` last: one without it, or with half of it, is not
whole.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint of a folder, None where there is none; those that are not whole are removed."""
    for place in sorted(folder.glob("checkpoint-*"), key=lambda path: -int(path.name.rpartition("-")[2])):
        try:
            json.loads((place / "trainer_state.json").read_bytes())
        except (OSError, ValueError):
            shutil.rmtree(place)
        else:
            return str(place)
    return None
