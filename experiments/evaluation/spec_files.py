"""Evaluation specs from YAML files and `--set` overrides; without a file, the built-in pair's reference arms.

1. Errors name the key path in the file.
2. An arm's plan is one line (`plan: add think.safetensors 1v on last_prompt`), a plan file, or a plan's mapping; vector files are looked
   for beside the spec's file first.
3. `plans` are arms of their own beside the baseline: its model, asked in its form, under each plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steering import documents
from steering.errors import BadInput
from steering.plan.plan import Plan
from steering.plan.source import located, read_plan
from steering.vector.features import Features
from steering.vector.vectors import SteeringVector

from ..store.runs import Arm
from ..tasks.task import resolve_task
from .spec import EvalSpec


def pair_spec(n: int = 1000) -> EvalSpec:
    """Both models of the pair on both test splits, by prompt form, greedy."""
    arms = (
        Arm(name="base_bare", label="base", role="baseline", model="builtin:base", form="bare"),
        Arm(name="base_quick", label="base, asked to be quick", role="prompt", model="builtin:base", form="quick"),
        Arm(name="base_think", label="base, asked to think first", role="prompt", model="builtin:base", form="think"),
        Arm(name="thinking", label="thinking", role="reference", model="builtin:thinking", form="bare"),
        Arm(
            name="thinking_quick",
            label="thinking, asked to be quick",
            role="prompt",
            model="builtin:thinking",
            form="quick",
        ),
    )
    return EvalSpec(name="pair", splits={"standard-test": n, "hard-test": n, "new-map-test": n}, arms=arms)


def load_spec(
    path: Path | None,
    sets: list[str],
    n: int | None,
    plans: Sequence[str] = (),
    named: Mapping[str, SteeringVector | Features] | None = None,
) -> tuple[EvalSpec, dict[str, SteeringVector | Features]]:
    """The spec and the vectors its plans name, by digest; `named` says what plans call vectors by other names.

    Raises BadInput or pydantic's ValidationError, before any model is loaded.
    """
    if path is None:
        data: Any = pair_spec().model_dump(mode="json")
    else:
        data = read_yaml(
            path, "an evaluation spec has name, splits and arms; `steer runs spec RUN` prints one to start from"
        )
    for text in sets:
        override(data, text)
    if n is not None:
        data["splits"] = dict.fromkeys(data.get("splits") or {}, n)
    folder = path.parent if path is not None else Path()
    known: dict[str, SteeringVector | Features] = dict(named or {})
    vectors = {vector.digest: vector for vector in known.values()}
    arms = data.get("arms")
    for index, arm in enumerate(arms if isinstance(arms, list | tuple) else []):
        if isinstance(arm, dict) and isinstance(arm.get("plan"), str | dict):
            arm["plan"], found = _plan(arm["plan"], known | vectors, folder, f"arms.{index}.plan")
            vectors |= found
    steered = []
    for number, text in enumerate(plans, 1):
        plan, found = _plan(text, known | vectors, Path(), "--plan")
        vectors |= found
        steered.append((f"steered-{number}" if len(plans) > 1 else "steered", text, plan))
    spec = EvalSpec.model_validate(data)
    spec = spec.model_copy(
        update={"task": located_task(spec.task, folder), "arms": (*spec.arms, *_beside(spec, steered))}
    )
    if not spec.arms or not spec.splits:
        raise BadInput("An evaluation needs at least one arm and one split.")
    for index, parsed in enumerate(spec.arms):
        if parsed.plan:
            try:
                Plan.from_dict(parsed.plan, vectors)
            except BadInput as error:
                raise BadInput(f"arms.{index}.plan: {error}") from error
    return spec, vectors


def _plan(
    given: str | dict[str, Any], known: Mapping[str, SteeringVector | Features], folder: Path, where: str
) -> tuple[dict[str, Any], dict[str, SteeringVector | Features]]:
    """A plan as a spec holds it, and its vectors by digest. A mapping stays as it is written, but for the files of vectors."""
    try:
        if isinstance(given, str):
            plan = read_plan(given, known, folder)
            return plan.to_dict(), dict(plan.vectors)
        data, found = located(given, known, folder)
        return data, {vector.digest: vector for vector in found.values()}
    except BadInput as error:
        joint = "." if str(error).startswith("interventions.") else ": "
        raise BadInput(f"{where}{joint}{error}") from error


def _beside(spec: EvalSpec, plans: Sequence[tuple[str, str, dict[str, Any]]]) -> list[Arm]:
    """Steered arms beside the baseline, by name, label and plan."""
    base = next((arm for arm in spec.arms if arm.role == "baseline"), None)
    if plans and base is None:
        raise BadInput("--plan steers the model of the baseline, and no arm of the spec is one.")
    taken = {arm.name for arm in spec.arms} & {name for name, _, _ in plans}
    if taken:
        raise BadInput(
            f"--plan makes an arm {sorted(taken)[0]!r}, and the spec has one of that name; give that one another."
        )
    return [
        Arm(name=name, label=label, role="steered", model=base.model, form=base.form, opening=base.opening, plan=plan)
        for name, label, plan in plans
        if base is not None
    ]


def located_task(task: str | dict[str, Any], folder: Path) -> str | dict[str, Any]:
    """A spec's task with its files as whole paths, so that every worker finds them. Raises BadInput for a task that cannot be had."""
    if isinstance(task, dict):
        own = dict(task)
        files = {key: own[key] for key in ("dataset", "file", "labels") if isinstance(own.get(key), str)}
        own |= {key: str((folder / name).resolve()) for key, name in files.items() if (folder / name).is_file()}
        if isinstance(own.get("task"), dict):  # of a task asked through templates
            own["task"] = located_task(own["task"], folder)
        task = own
    resolve_task(task, folder)
    return task


def read_yaml(path: Path, has: str) -> dict[str, Any]:
    """The mapping in a YAML file. Raises BadInput, saying what such a file `has`."""
    if not path.is_file():
        raise BadInput(f"No spec file at {path}; {has}.")
    data = documents.read_yaml_file(path)
    if not isinstance(data, dict):
        raise BadInput(f"{path} holds no mapping; {has}.")
    return data


def override(data: dict[str, Any], text: str) -> None:
    """Apply one `--set key.path=value` to a spec's data. Raises BadInput for a path that leads nowhere."""
    key, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"--set {text}: write key=value, for example --set generation.max_new_tokens=200.")
    *parents, last = key.split(".")
    place: Any = data
    for part in parents:
        if isinstance(place, list) and part.isdigit() and int(part) < len(place):
            place = place[int(part)]
        elif isinstance(place, dict):
            place = place.setdefault(part, {})
        else:
            raise BadInput(f"--set {text}: there is no {key!r} in the spec.")
    if not isinstance(place, dict):
        raise BadInput(f"--set {text}: {'.'.join(parents)!r} is not a mapping.")
    place[last] = documents.read_yaml(value, f"--set {text}")
