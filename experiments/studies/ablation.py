"""Feature ablation: groups of latents x operations x scopes on the same items, each beside its controls.

1. Every target stands beside latents matched to its own on density and norm, edited the same way; beside random directions with the same
   mean ‖delta‖/‖h‖ where asked for; and beside the splice-only control, which reads the latents and changes nothing.
2. Arms are ordinary arms of an evaluation, so rows are stored, resumed and receipted as any others. What an arm is can be read off its
   name: `latents|operation|scope|kind`.
3. The reconstruction error is kept by every edit: what is measured is the latents' doing, not the autoencoder's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator

from saes.dictionary import Dictionary
from saes.statistics import LatentStatistics, matched
from steering.engine.edit_size import edit_size
from steering.errors import BadInput, unknown
from steering.model.models import LoadedModel, load_model
from steering.plan.dose import Dose
from steering.plan.plan import LATENT_OPERATIONS, Intervention, Plan
from steering.plan.span import Span
from steering.vector.features import Features
from steering.vector.vectors import UNKNOWN, Provenance, SteeringVector

from ..evaluation.evaluate import run_evaluation
from ..evaluation.spec import EvalSpec, Generating
from ..store.runs import Arm, Run, Store
from ..tasks.task import asked_ids, resolve_task

PROBED = 32
"""Items on which the size of an edit is measured for its random directions."""


class AblationSpec(BaseModel):
    """What is edited, how, where, and on which items."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(default="ablation", pattern=r"^[a-z0-9][a-z0-9-]*$")
    model: str = "builtin:thinking"
    task: str | dict[str, Any] = "find-start"
    """A name, or a mapping as an evaluation's `task`."""
    form: str = "bare"
    splits: dict[str, int] = {"standard-test": 200}
    features: tuple[tuple[int, ...], ...]
    """Groups of latents; each group is edited together."""
    operations: tuple[str, ...] = ("ablate",)
    """An operation on latents and its dose, as in a plan: `ablate`, `mean`, `clamp 2p`, `scale 0.5f`, `raise 15f`, `add 2p`, `cap 1`."""
    scopes: tuple[str, ...] = ("all",)
    """Spans, as in a plan: `all`, `generated`, `last_prompt`, ..."""
    controls: int = Field(default=4, ge=0)
    """Groups of matched latents per target."""
    directions: int = Field(default=20, ge=0)
    """Random directions per target, of the size that its edit is measured to have."""
    splice: bool = True
    generation: Generating = Generating()
    seed: int = 0

    @field_validator("features")
    @classmethod
    def _groups(cls, groups: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
        if not groups or any(not group or len(set(group)) != len(group) for group in groups):
            raise ValueError("name at least one group of latents, each latent once")
        return groups

    @field_validator("operations")
    @classmethod
    def _operations(cls, operations: tuple[str, ...]) -> tuple[str, ...]:
        for text in operations:
            parse_operation(text)
        return operations

    @field_validator("scopes")
    @classmethod
    def _scopes(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        for text in scopes:
            Span.parse(text)
        return scopes


@dataclass(frozen=True)
class ArmFacts:
    """What an arm of an ablation is, read off its name."""

    latents: tuple[int, ...]
    operation: str
    scope: str
    kind: str
    """`target`, `control <latents>`, `direction <seed>` or `splice`."""

    @property
    def name(self) -> str:
        return "|".join(("+".join(map(str, self.latents)), self.operation, self.scope, self.kind))

    @staticmethod
    def parse(name: str) -> ArmFacts | None:
        """None for an arm that no ablation made, such as the baseline."""
        parts = name.split("|")
        if len(parts) != 4:
            return None
        return ArmFacts(tuple(int(n) for n in parts[0].split("+")), *parts[1:])


def parse_operation(text: str) -> tuple[str, Dose | None]:
    """`clamp 2p` as an operation and its dose. Raises BadInput for an operation that latents do not have."""
    operation, _, dose = text.strip().partition(" ")
    if operation not in LATENT_OPERATIONS:
        raise unknown("operation", operation, LATENT_OPERATIONS, "an ablation")
    if bool(dose.strip()) != bool(LATENT_OPERATIONS[operation]):
        raise BadInput(
            f"{text!r}: {operation} takes {'a dose, for example scale 0.5f or clamp 2p' if LATENT_OPERATIONS[operation] else 'no dose'}."
        )
    return operation, Dose.parse(dose.strip()) if dose.strip() else None


def edit_plan(features: Features, operation: str, scope: str) -> Plan:
    """One edit of a group of latents."""
    kind, dose = parse_operation(operation)
    return Plan((Intervention(kind, features, Span.parse(scope), dose),))  # type: ignore[arg-type]


def control_groups(
    statistics: LatentStatistics, group: Sequence[int], n: int, exclude: Sequence[int], seed: int
) -> list[tuple[int, ...]]:
    """`n` groups of other latents, each member matched to a member of `group` on density and norm; no latent in two of them.

    A member that an earlier group has is drawn again from the others. Raises BadInput where too few live latents are left.
    """
    groups: list[tuple[int, ...]] = []
    used: set[int] = set()
    for number in range(n):
        taken: list[int] = []
        for latent in group:
            own, draw = [*exclude, *group, *taken], seed + 7919 * number
            found = matched(statistics, latent, 1, exclude=own, seed=draw, pool=4 * n)
            if used.intersection(found):
                found = matched(statistics, latent, 1, exclude=[*own, *used], seed=draw, pool=4 * n)
            taken += found
        groups.append(tuple(taken))
        used.update(taken)
    return groups


def ablation_arms(
    spec: AblationSpec, dictionary: Dictionary, statistics: LatentStatistics, model: LoadedModel
) -> tuple[tuple[Arm, ...], dict[str, SteeringVector | Features]]:
    """The arms of an ablation, the unsteered one first, and the features and vectors they use by digest.

    Raises BadInput for a latent that does not exist or is never active, or when too few latents are left for the controls.
    """
    statistics.check(dictionary)
    dictionary.check(model)
    named = sorted({latent for group in spec.features for latent in group})
    missing = [latent for latent in named if not 0 <= latent < dictionary.latents]
    if missing:
        raise BadInput(f"Latent {missing[0]} does not exist: {dictionary.name} has {dictionary.latents}.")
    dead = [latent for latent in named if not statistics.alive[latent]]
    if dead:
        raise BadInput(
            f"Latent {dead[0]} was never active on the {statistics.tokens} tokens that the statistics were read on; leave it out."
        )
    arms = [Arm(name="unsteered", label="unsteered", role="baseline", model=spec.model, form=spec.form)]
    used: dict[str, SteeringVector | Features] = {}

    def add(facts: ArmFacts, plan: Plan, role: str, label: str) -> None:
        used.update({i.vector.digest: i.vector for i in plan.interventions})
        arms.append(
            Arm(name=facts.name, label=label, role=role, model=spec.model, form=spec.form, plan=plan.to_dict())  # type: ignore[arg-type]
        )

    for group in spec.features:
        own = statistics.features(dictionary, group)
        others = control_groups(statistics, group, spec.controls, named, spec.seed)
        for scope in spec.scopes:
            for operation in spec.operations:
                what = f"{own.name} {operation} on {scope}"
                plan = edit_plan(own, operation, scope)
                add(ArmFacts(group, operation, scope, "target"), plan, "steered", what)
                for other in others:
                    control = statistics.features(dictionary, other)
                    kind = f"control {'+'.join(map(str, other))}"
                    control_plan = edit_plan(control, operation, scope)
                    add(
                        ArmFacts(group, operation, scope, kind),
                        control_plan,
                        "control",
                        f"{what}: {control.name} instead",
                    )
                if spec.directions:
                    ratio = measured_edit(spec, model, plan)
                    for number in range(spec.directions):
                        turned = random_direction_plan(dictionary, ratio, scope, spec.seed + number)
                        facts = ArmFacts(group, operation, scope, f"direction {number}")
                        add(facts, turned, "control", f"{what}: random direction {number} instead")
            if spec.splice:
                plan = edit_plan(own, "scale 1f", scope)
                add(
                    ArmFacts(group, "scale 1f", scope, "splice"),
                    plan,
                    "control",
                    f"{own.name} read and left alone on {scope}",
                )
    return tuple(arms), used


def measured_edit(spec: AblationSpec, model: LoadedModel, plan: Plan) -> float:
    """Mean ‖delta‖/‖h‖ of a plan's edits on the first items of the first split, the positions where it changed nothing included."""
    task, (split, n) = resolve_task(spec.task), next(iter(spec.splits.items()))
    return edit_size(
        model, [asked_ids(task, model, item, spec.form) for item in task.items(split, min(n, PROBED))], plan
    )


def random_direction_plan(dictionary: Dictionary, ratio: float, scope: str, seed: int) -> Plan:
    """Add a random direction of `ratio` times the activation's norm, either sign as the seed has it."""
    drawn = torch.randn(dictionary.width, generator=torch.Generator().manual_seed(100_003 + seed))
    provenance = Provenance("random direction", UNKNOWN, notes={"seed": seed})
    vector = SteeringVector(f"random-{seed}", dictionary.site, drawn / drawn.norm(), provenance)
    return Plan((Intervention("add", vector, Span.parse(scope), Dose(ratio, "residual")),))


def run_ablation(
    spec: AblationSpec,
    store: Store,
    dictionary: Dictionary,
    statistics: LatentStatistics,
    *,
    models: dict[str, LoadedModel] | None = None,
    on_rows: Callable[[int, int], None] | None = None,
) -> Run:
    """Run or resume an ablation. Raises BadInput before any forward pass over the items."""
    models = {} if models is None else models
    model = models.setdefault(spec.model, load_model(spec.model)) if spec.model not in models else models[spec.model]
    arms, used = ablation_arms(spec, dictionary, statistics, model)
    evaluation = EvalSpec(name=spec.name, task=spec.task, splits=spec.splits, arms=arms, generation=spec.generation)
    return run_evaluation(evaluation, store, used, models=models, on_rows=on_rows)


def cumulative_groups(ranked: Sequence[int], sizes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The first 1, 2, 4, ... of ranked latents as groups, for a curve over how many are edited together. Raises BadInput for a size
    that the ranking does not reach."""
    beyond = [size for size in sizes if not 0 < size <= len(ranked)]
    if beyond:
        raise BadInput(f"A group of {beyond[0]} cannot be made of {len(ranked)} ranked latents.")
    return tuple(tuple(ranked[:size]) for size in sizes)


def item_values(run: Run, column: str) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """A column's mean per item (seeds averaged), in the order of items, by split and arm."""
    frame = run.table(columns=["arm", "split", "item", "order", column]).to_pandas()
    values = frame.groupby(["split", "arm", "order"], sort=True)[column].mean()
    found: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
    for (split, arm), own in values.groupby(level=[0, 1]):
        found.setdefault(split, {})[arm] = own.to_numpy(float)
    return found


def token_counts(run: Run) -> Mapping[str, Mapping[str, np.ndarray[Any, Any]]]:
    """Generated tokens per item, as `item_values`."""
    frame = run.table(columns=["arm", "split", "order", "token_ids"]).to_pandas()
    frame["tokens"] = frame["token_ids"].map(len)
    found: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
    for (split, arm), own in frame.groupby(["split", "arm", "order"])["tokens"].mean().groupby(level=[0, 1]):
        found.setdefault(split, {})[arm] = own.to_numpy(float)
    return found
