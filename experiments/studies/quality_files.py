"""The report of a vector's quality, in a file beside the vector.

1. `think.safetensors` has its report in `think.quality.json`. The vector's own file does not change: its bytes, and so every copy that a
   run keeps, are those of the direction and where it is from, whatever it was measured on.
2. A report names the vector by digest; beside another vector it is refused.
3. It holds hashes of the sequences that the vector was extracted from, so that texts which are measured later can be told apart from them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from steering.errors import BadInput
from steering.extraction import Quality
from steering.files import write_file
from steering.vector.vectors import SteeringVector

SUFFIX = ".quality.json"


class Stored(BaseModel):
    """A report, and what it was measured on."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
    format: Literal["steering-workbench/quality@1"] = "steering-workbench/quality@1"
    vector: str
    """Digest of the vector."""
    read: str
    method: str
    share: float
    """Share of the items that was to be held out, and the seed that drew them."""
    seed: int
    training: tuple[int, int]
    """Positive and negative sequences that the vector was extracted from: texts, questions in a form, or traces that hold such a span."""
    held_out: tuple[int, int]
    """Positive and negative sequences that separability was measured on."""
    sequences: tuple[str, ...]
    """Hashes of the sequences extracted from."""
    report: Quality

    @property
    def sentence(self) -> str:
        """What it was measured on."""
        return (
            f"{self.report.name} at {self.report.site}: {self.method}, read at {self.read}; extracted from {self.training[0]} and "
            f"{self.training[1]} sequences, separability on {self.held_out[0]} and {self.held_out[1]} held out."
        )


def sequence_hash(ids: Sequence[int]) -> str:
    """12 hexadecimal digits of a token sequence."""
    return hashlib.sha256(json.dumps([int(i) for i in ids]).encode()).hexdigest()[:12]


def quality_path(vector: Path) -> Path:
    """Where the report of a vector's file lies."""
    return vector.with_name(vector.name.removesuffix(".safetensors") + SUFFIX)


def write_quality(vector: Path, stored: Stored | None) -> Path | None:
    """Write the report beside a vector's file; without one, a report of an earlier vector of that name is removed."""
    path = quality_path(vector)
    if stored is None:
        path.unlink(missing_ok=True)
        return None
    write_file(path, (stored.model_dump_json(indent=1) + "\n").encode())
    return path


def read_quality(vector: Path) -> Stored | None:
    """The report beside a vector's file; None where there is none. Raises BadInput for one that is broken or another vector's."""
    own, path = SteeringVector.load(vector), quality_path(vector)
    if not path.is_file():
        return None
    try:
        found = Stored.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(
            f"{path} holds no report of this program ({'.'.join(map(str, first['loc']))}: {first['msg']}); measure the vector again."
        ) from error
    if found.vector != own.digest:
        raise BadInput(
            f"{path} is the report of vector {found.vector}, not of {vector} ({own.digest}); measure it again."
        )
    return found


def known_texts(stored: Stored | None, sequences: Iterable[Sequence[int]]) -> str:
    """What is to be said of texts that a vector is measured on beside the report; empty where it was extracted from none of them."""
    if stored is None:
        return (
            "It is not known which texts the vector was extracted from; measured on those, it looks better than it is."
        )
    hashes = {sequence_hash(s) for s in sequences}
    both = len(hashes & set(stored.sequences))
    if not both:
        return ""
    texts = f"{both} of the {len(hashes)} different texts that it is measured on"
    return f"The vector was extracted from {texts}, so it looks better than it is."
