"""The language study: extract, measure, sweep, test, probe; everything is stored, and nothing is made twice.

1. Each direction is a sweep (`sweeps.run`): a development run and a test run of the store, resumed by what is stored.
2. What is beside the runs lies in `<runs>/.language/<weights>-<hash of the texts and layers>/`: vectors, quality, probes; and per run
   what its texts cost in fluency. It is made once, and can be deleted.
3. Before anything is made, the model is tried: one whose tokenizer cannot read the texts is refused, and so is a store that is not local.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from steering.errors import BadInput
from steering.model.models import LoadedModel
from steering.vector.vectors import SteeringVector

from ...evaluation.executors import ChunkExecutor, in_process
from ...evaluation.loading import load
from ...progress import progress, talk
from ...store.files import is_local, write_whole
from ...store.runs import Run, Store
from ...sweeps.run import SweepResult, run_sweep
from ...tasks.task import resolve_task
from .damage import damage
from .directions import DIRECTIONS, Direction
from .extraction import extracted, quality
from .grader_error import ClassError, grader_error
from .probes import CLASSES, fitted
from .spec import LanguageSpec
from .steering import sweep_of, vector_file
from .texts import data_digest, encoded

FOLDER = ".language"


@dataclass(frozen=True, eq=False)
class Finding:
    """What was found of one direction."""

    direction: Direction
    quality: Mapping[str, Any]
    """Quality report by layer."""
    error: tuple[ClassError, ...]
    sweep: SweepResult
    damage: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """By run id, by arm: the fields of `damage.Damage`."""
    probe: Mapping[str, Any] | None

    @property
    def development(self) -> Run:
        return self.sweep.runs[0]

    @property
    def test(self) -> Run:
        assert self.sweep.test is not None  # every sweep of the study has a test split
        return self.sweep.test


def run_language(
    spec: LanguageSpec,
    store: Store,
    *,
    models: dict[str, LoadedModel] | None = None,
    executor: ChunkExecutor = in_process,
    directions: tuple[str, ...] = tuple(DIRECTIONS),
    console: Console | None = None,
) -> list[Finding]:
    """Run or resume the study. Raises BadInput, before anything is made, for a model that cannot read the texts."""
    console, models = console or talk(), {} if models is None else models
    if not is_local(store.root):
        raise BadInput(
            f"The language demo keeps vectors beside the runs, in a folder of this machine; {store.root} is none. Give --runs one."
        )
    for name in directions:
        DIRECTIONS[name].grading()  # a grader's library is missed here, not after the work
    if spec.model.startswith("builtin:"):
        raise BadInput(
            f"{spec.model} knows no language but that of its own task. `steer demo` without --model is its demo; --model takes any causal "
            f"language model, such as smollm2."
        )
    if spec.model not in models:
        models[spec.model] = load(spec.model, spec.loading)
    model = models[spec.model]
    for name in directions:
        encoded(
            model, tuple(item.data.question for item in resolve_task(DIRECTIONS[name].task(model)).items("test", 2))
        )
    return [_found(DIRECTIONS[name], spec, store, models, executor, console) for name in directions]


def _found(
    direction: Direction, spec: LanguageSpec, store: Store, models: dict[str, LoadedModel], executor: ChunkExecutor, console: Console
) -> Finding:  # fmt: skip
    model = models[spec.model]
    folder = parts_folder(store, direction, spec, model)
    vectors = _vectors(folder, direction, spec, model, console)
    measured = _made(folder / f"{direction.name}-quality.json", lambda: quality(model, direction, spec, vectors))
    probe = None
    if direction.name in CLASSES:
        probe = _made(
            folder / f"{direction.name}-probe-{spec.examples}.json", lambda: _probe(folder, direction, spec, model)
        )
    sweep = sweep_of(direction, spec, model, folder, vectors)
    with progress(f"steering: {direction.title}", console) as report:
        result = run_sweep(
            sweep, store, models=models, executor=executor, on_rows=lambda _, done, total: report(done, total)
        )
    runs = [*result.runs, *([result.test] if result.test else [])]
    costs = {}
    for run in runs:
        path = folder / f"damage-{run.manifest.run_id}.json"
        costs[run.manifest.run_id] = _made(path, lambda run=run: damage(run, model))  # type: ignore[misc]
    return Finding(direction, measured, grader_error(direction), result, costs, probe)


def parts_folder(store: Store, direction: Direction, spec: LanguageSpec, model: LoadedModel) -> Path:
    """Where the parts lie that depend on the weights, the texts and the layers."""
    texts = [data_digest(direction.name), data_digest(direction.labelled) if direction.labelled else ""]
    facts = [direction.read, texts, spec.sites(model.n_layers), spec.pairs]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]
    return (Path(store.root) / FOLDER / f"{model.fingerprint[:16]}-{digest}").resolve()


def _vectors(
    folder: Path, direction: Direction, spec: LanguageSpec, model: LoadedModel, console: Console
) -> dict[int, SteeringVector]:
    paths = {layer: vector_file(folder, direction, layer) for layer in spec.sites(model.n_layers)}
    if not all(path.is_file() for path in paths.values()):
        console.print(f"Extracting {direction.title} from {spec.pairs} pairs of texts ...", highlight=False)
        for layer, vector in extracted(model, direction, spec).items():
            vector.save(paths[layer])
    return {layer: SteeringVector.load(path) for layer, path in paths.items()}


def _probe(folder: Path, direction: Direction, spec: LanguageSpec, model: LoadedModel) -> dict[str, Any]:
    probe, measured = fitted(model, direction, spec)
    path = folder / f"{direction.name}-probe-{spec.examples}.safetensors"
    probe.save(path)
    return {"file": str(path), **measured}


def _made(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What stands in a file, made and written where it is not there."""
    if not path.is_file():
        write_whole(path, json.dumps(make(), indent=1, sort_keys=True).encode())
    found: dict[str, Any] = json.loads(path.read_text())
    return found
