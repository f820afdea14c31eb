"""What a sweep is, as a file; and the cells that it stands for.

    name: layers-doses
    model: builtin:base
    reference: builtin:thinking
    plan: add think.safetensors ${dose}v at blocks.$layer.hook_resid_post on last_prompt
    vary: {layer: [0, 1, 2], dose: [-1, 0.5, 1, 2]}
    splits: {development: {standard-dev: 64}, test: {standard-test: 200}}

1. `plan` is a one-line plan (`docs/plans.md`), or the name of a plan file, with `$names` where the values of `vary` go (of a plan file in
   the file, in its name, or both); a key of `vary` that begins with `generation.` varies a generation setting instead.
2. `search` says which combinations are run: all (`grid`), some drawn by seed (`random`), those listed (`list`), or all on few problems and
   the better ones on more (`halving`).
3. Every cell is checked before anything runs, and stands beside controls of its own: random directions whose edits are as large as its own.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from steering.documents import read_yaml, read_yaml_file
from steering.errors import BadInput, unknown
from steering.plan.plan import Plan
from steering.plan.source import is_file_name, read_plan
from steering.vector.features import Features
from steering.vector.vectors import SteeringVector

from ..evaluation.loading import Loading
from ..evaluation.spec import Generating
from .cells import GENERATION, Cell, Value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Search(_Strict):
    """Which combinations of `vary` are run."""

    kind: Literal["grid", "random", "list", "halving"] = "grid"
    n: PositiveInt | None = None
    """Of `random`: how many combinations."""
    seed: int = 0
    cells: tuple[dict[str, Value], ...] = ()
    """Of `list`: the combinations."""
    rungs: tuple[PositiveInt, ...] = ()
    """Of `halving`: problems per split of each rung, ascending; the last runs whole splits where it is larger."""
    keep: float = Field(default=0.5, gt=0, lt=1)
    """Of `halving`: share of the cells that go on to the next rung."""

    @model_validator(mode="after")
    def _fits(self) -> Search:
        needs = {"n": self.kind == "random", "cells": self.kind == "list", "rungs": self.kind == "halving"}
        for name, needed in needs.items():
            if needed != bool(getattr(self, name)):
                raise ValueError(f"search {self.kind} {'needs' if needed else 'takes no'} {name}")
        if list(self.rungs) != sorted(set(self.rungs)):
            raise ValueError(f"rungs {list(self.rungs)} must grow")
        return self


class Controls(_Strict):
    """What stands beside each cell."""

    random: int = Field(default=20, ge=0)
    """Random directions of equal edit size beside every cell of the development run, each its own draw. With 19 or more, direction k of all
    cells is a pseudo-sweep, and the best cell has a p of its own."""
    random_on_test: int | None = Field(default=None, ge=0)
    """Random directions beside the winner on the test splits: by default 39 where pseudo-sweeps account for the choice, else as many as the
    best of all cells needs for a p of 0.05 (`statistics.directions_needed`)."""


class Splits(_Strict):
    """Problems by split: cells are chosen on `development`, the winner is run again on `test`."""

    development: dict[str, PositiveInt]
    test: dict[str, PositiveInt] = {}

    @model_validator(mode="after")
    def _apart(self) -> Splits:
        shared = sorted(self.development.keys() & self.test.keys())
        if not self.development:
            raise ValueError("name at least one development split")
        if shared:
            raise ValueError(
                f"{shared[0]!r} is both a development and a test split; the winner would be tested on what chose it"
            )
        return self


class SweepSpec(_Strict):
    """A sweep."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    model: str
    plan: str
    vary: dict[str, tuple[Value, ...]]
    splits: Splits
    task: str | dict[str, Any] = "find-start"
    form: str = "bare"
    reference: str | None = None
    """The thinking model, asked in the same form: the top of the gap."""
    prompted: str | None = None
    """A prompt form that asks for what steering is to bring about: the arm to beat."""
    search: Search = Search()
    controls: Controls = Controls()
    generation: Generating = Generating()
    loading: Loading | None = None
    """Precision, device and revisions of the models."""
    rows_per_chunk: PositiveInt = 768
    rows_per_batch: PositiveInt = 128
    batch_invariant: bool = False
    """Rows have the same bits whatever runs beside them (`steering.engine.invariant`)."""

    @model_validator(mode="after")
    def _named(self) -> SweepSpec:
        used, given = placeholders(self.plan), _varied(self)
        for name in () if is_file_name(self.plan) else sorted(given - used):
            raise ValueError(f"vary.{name} is not in the plan; write ${name} where its values go")
        for name in sorted(used - given):
            raise ValueError(f"the plan has ${name}, but vary lacks it; it has {', '.join(sorted(given)) or 'nothing'}")
        for key, values in self.vary.items():
            if not values or len(set(values)) != len(values):
                raise ValueError(f"vary.{key} needs at least one value, and none twice")
            field = key.removeprefix(GENERATION)
            if key.startswith(GENERATION) and (field not in Generating.model_fields or field == "seeds"):
                raise ValueError(f"vary.{key}: there is no such generation setting to vary")
        return self


def cells_of(spec: SweepSpec) -> list[Cell]:
    """The combinations that are run, in order. Raises BadInput for a listed cell that does not fit `vary`."""
    keys = list(spec.vary)
    every = [dict(zip(keys, values, strict=True)) for values in itertools.product(*spec.vary.values())]
    if spec.search.kind == "list":
        for number, settings in enumerate(spec.search.cells):
            for key in settings.keys() ^ set(keys):
                raise unknown("key", key, keys, f"search.cells.{number} (each cell has a value for every key of vary)")
        every = [dict(settings) for settings in spec.search.cells]
    if spec.search.kind == "random":
        chosen = random.Random(spec.search.seed).sample(range(len(every)), min(spec.search.n or 0, len(every)))
        every = [every[i] for i in sorted(chosen)]
    return [Cell(name=f"cell-{n:03d}", settings=settings) for n, settings in enumerate(every)]


def cell_plan(spec: SweepSpec, cell: Cell, folder: Path, known: Mapping[str, SteeringVector | Features]) -> Plan:
    """The plan of a cell; vector files are looked for beside the spec's file. Raises BadInput naming the cell."""
    settings = {k: v for k, v in cell.settings.items() if not k.startswith(GENERATION)}
    text = _with(spec.plan, settings, "plan")
    try:
        if is_file_name(text):
            path = folder / text if (folder / text).is_file() else Path(text)
            return read_plan(_filled(path, spec, settings), known, path.parent)
        return read_plan(text, known, folder)
    except BadInput as error:
        raise BadInput(f"plan of {cell.name} ({cell.label}): {error}") from error


def placeholders(text: str) -> set[str]:
    """The `$names` in a plan, `$$` being a dollar sign."""
    return set(re.findall(r"\$\{?([A-Za-z_]\w*)", text.replace("$$", "")))


def _varied(spec: SweepSpec) -> set[str]:
    """Keys of `vary` whose values go into the plan."""
    return {key for key in spec.vary if not key.startswith(GENERATION)}


def _filled(path: Path, spec: SweepSpec, settings: Mapping[str, Value]) -> Any:
    """The mapping of a plan file with a cell's values in the place of its `$names`. Raises BadInput for names that are not varied, and for
    varied ones that are neither in the file nor in its name."""
    if not path.is_file():
        raise BadInput(f"No plan file at {path}.")
    read_yaml_file(path)  # what is no YAML is refused as everywhere
    text = path.read_text("utf-8-sig")
    used, given = placeholders(text), _varied(spec)
    if lacking := sorted(used - given):
        raise BadInput(f"{path} has ${lacking[0]}, but vary lacks it; it has {', '.join(sorted(given)) or 'nothing'}.")
    if unused := sorted(given - used - placeholders(spec.plan)):
        raise BadInput(
            f"vary.{unused[0]} is neither in the plan file {path} nor in its name; write ${unused[0]} where its values go."
        )
    return read_yaml(_with(text, settings, str(path)), str(path)) if used else read_yaml_file(path)


def _with(text: str, settings: Mapping[str, Value], where: str) -> str:
    """A text with values in the place of its `$names`. Raises BadInput for a dollar sign that begins none."""
    try:
        return Template(text).substitute(settings)
    except ValueError as error:
        raise BadInput(f"{where} has a `$` that begins no name ({error}); write $$ for a dollar sign.") from error


def cell_generation(spec: SweepSpec, cell: Cell) -> Generating:
    """Generation settings of a cell."""
    own = {k.removeprefix(GENERATION): v for k, v in cell.settings.items() if k.startswith(GENERATION)}
    return Generating.model_validate({**spec.generation.model_dump(), **own})


def load_sweep(path: Path, sets: list[str]) -> SweepSpec:
    """A sweep from its YAML file and `--set` overrides. Raises BadInput, or pydantic's ValidationError with the key path."""
    from ..evaluation.spec_files import located_task, override, read_yaml

    data: dict[str, Any] = read_yaml(path, "a sweep has name, model, plan, vary and splits")
    for text in sets:
        override(data, text)
    spec = SweepSpec.model_validate(data)
    return spec.model_copy(update={"task": located_task(spec.task, path.parent)})
