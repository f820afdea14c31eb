"""What a run is: its arms, splits and status, and how that is written to and read from `run.json`.

1. A manifest is validated on construction: one baseline, at most one reference, arm names used once, plain JSON data.
2. A manifest that cannot be read says which file, what is wrong, and what to do; so does one of a newer schema version.
3. A manifest of an older schema version is read as one of this version, and stays as it is on disk.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from steering.errors import listed

from .files import StoreError, read_json, write_whole
from .migration import SCHEMA_VERSION, migrated_manifest, program

Status = Literal["running", "complete", "interrupted"]
Role = Literal["baseline", "prompt", "steered", "control", "reference"]

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
AGAIN = "delete this file and run the same command again"


def check_run_id(run_id: object) -> str:
    """`run_id` if it is a plain folder name, else StoreError."""
    if not isinstance(run_id, str) or not _RUN_ID.fullmatch(run_id):
        raise StoreError(
            f"{run_id!r} is not a run id: use up to 120 letters, digits, '.', '_' and '-', the first a letter "
            f"or digit, for example 'pair-steering-01'."
        )
    return run_id


def near(name: str, valid: Iterable[str]) -> str:
    """The nearest valid name and the valid names, as the end of an error message."""
    names = sorted(valid)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return (f" Did you mean {nearest[0]!r}?" if nearest else "") + (
        f" There are: {listed(names)}." if names else " There are none."
    )


class Arm(BaseModel):
    """One condition of a run. `form` is the form of the prompt, as the task names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(min_length=1)
    label: str
    role: Role
    model: str
    form: str
    plan: dict[str, Any] | None = None
    description: str = ""
    opening: str = ""
    """First words of the response, given to the model after the prompt: whether steering does more than choose them."""
    begun: tuple[int, ...] = ()
    """First tokens of the response, as ids of the arm's model, which every text goes on from; generated ones for spans and the limit."""
    controller: dict[str, Any] | None = None
    """Of a hybrid: the facts of its `Controller`, and if a model runs beside, its name under `thinking` and, where it is asked in another
    form, that under `thinking_form`."""
    decoder: dict[str, Any] | None = None
    """How its texts are made, where that is not one text per question by the run's settings (`experiments.decoders`)."""

    @model_serializer(mode="wrap")
    def _written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        facts: dict[str, Any] = handler(self)
        return {k: v for k, v in facts.items() if v or k not in ("opening", "begun", "controller", "decoder")}

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.plan and self.controller:
            raise ValueError(f"arm {self.name!r} has a plan and a controller; an arm is steered by one of them")
        if self.decoder and self.controller:
            raise ValueError(f"arm {self.name!r} has a decoder and a controller; a hybrid writes its own texts")
        if self.begun and (self.controller or self.decoder):
            raise ValueError(
                f"arm {self.name!r} goes on from tokens, which a controller or a decoder cannot; leave them out"
            )
        return self


class Manifest(BaseModel):
    """What a run is; only its status changes after the first row. Raises ValidationError (a ValueError)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: int = SCHEMA_VERSION
    program: str = Field(default_factory=program)
    """Name and version of the program that began the run."""
    run_id: str
    name: str
    status: Status = "running"
    spec: dict[str, Any]
    """Everything that was asked for, as plain JSON data."""
    arms: list[Arm]
    splits: dict[str, PositiveInt]
    """Items per split, in the order of display."""
    seeds: PositiveInt = 1
    """Sequences per item and arm."""
    facts: dict[str, Any] = {}
    """What was found rather than asked for: versions, hashes of models and tokenizers."""

    @field_validator("run_id")
    @classmethod
    def _plain_id(cls, value: str) -> str:
        return check_run_id(value)

    @field_validator("spec", "facts")
    @classmethod
    def _plain_data(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            return dict(json.loads(json.dumps(value, allow_nan=False)))
        except (TypeError, ValueError) as error:
            raise ValueError(f"holds something that is not plain JSON data ({error})") from error

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.schema_version != SCHEMA_VERSION:
            raise ValueError(f"schema version is {self.schema_version}; this program writes version {SCHEMA_VERSION}")
        twice = [name for name, count in Counter(a.name for a in self.arms).items() if count > 1]
        if twice:
            raise ValueError(f"arm name {twice[0]!r} is used twice; every arm needs its own name")
        roles = Counter(a.role for a in self.arms)
        if roles["baseline"] != 1:
            raise ValueError(
                f"{roles['baseline']} arms have the role baseline; exactly one must, to compare the others with"
            )
        if roles["reference"] > 1:
            raise ValueError(f"{roles['reference']} arms have the role reference, the top of the gap; at most one may")
        if not self.splits:
            raise ValueError("there is no split; name at least one with its number of items")
        return self

    @property
    def baseline(self) -> Arm:
        """The arm that all others are compared with."""
        return next(a for a in self.arms if a.role == "baseline")

    @property
    def reference(self) -> Arm | None:
        """The top of the gap (the thinking model), if the run has one."""
        return next((a for a in self.arms if a.role == "reference"), None)

    @property
    def rows_expected(self) -> int:
        """Rows of the finished run: items of all splits x arms x seeds."""
        return sum(self.splits.values()) * len(self.arms) * self.seeds


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a run's folder. Raises StoreError."""
    path, remedy = folder / "run.json", f"To go on, {AGAIN}: the rows are kept."
    if not path.exists():
        raise StoreError(f"{folder} has no run.json: no run, or one that ended before it began. Run its command again.")
    data = migrated_manifest(read_json(path, remedy), str(path))
    try:
        manifest = Manifest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise StoreError(f"{path} is not a valid manifest ({place}: {first['msg']}). {remedy}") from error
    if manifest.run_id != folder.name:
        raise StoreError(f"{path} says run {manifest.run_id!r}, its folder {folder.name!r}. Give the folder that name.")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `run.json` whole."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(folder / "run.json", (text + "\n").encode())


def difference(place: str, stored: Any, asked: Any) -> str | None:
    """The first place where two JSON values differ, in words."""
    if isinstance(stored, dict) and isinstance(asked, dict):
        pairs = [(f"{place}.{k}", stored.get(k), asked.get(k)) for k in dict.fromkeys([*stored, *asked])]
    elif isinstance(stored, list) and isinstance(asked, list) and len(stored) == len(asked):
        pairs = [(f"{place}[{i}]", s, a) for i, (s, a) in enumerate(zip(stored, asked, strict=True))]
    else:
        return None if stored == asked else f"{place} is {stored!r:.80} there and {asked!r:.80} here"
    return next((text for text in (difference(*pair) for pair in pairs) if text), None)
