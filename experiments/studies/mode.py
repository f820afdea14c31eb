"""The latent that starts reasoning: found on training problems, chosen on development problems, reported on test problems.

He et al., 2601.08058: a latent whose activation is larger under a prompt that asks for reasoning than under one that asks for the answer
directly is raised once, at the last token of the direct prompt.

On any task with two such prompt forms (`asking`); the built-in one is the default.

1. Candidates come from the paired difference on questions that nothing else reads; group of latents and strength are chosen by accuracy on
   the development splits (then by verified traces, fewer latents, and the smaller edit); the test splits are run once, with the choice
   fixed.
2. Beside the chosen edit stand: latents matched to it on density and norm and raised by the same strength, random directions of the
   same ‖delta‖/‖h‖, the reasoning prompt, and the direct prompt with the first words of reasoning already given (`opening`), which shows
   whether the latent does more than choose the first word.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.console import Console

from saes.dictionary import Dictionary
from saes.differences import PairedDifference, paired_difference
from saes.statistics import LatentStatistics
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.model.models import LoadedModel, load_model
from steering.plan.plan import Plan
from steering.vector.features import Features
from steering.vector.vectors import SteeringVector

from ..evaluation.evaluate import run_evaluation
from ..evaluation.spec import EvalSpec, Generating
from ..progress import progress, talk, warning
from ..store.runs import Arm, Run, Store
from .ablation import (
    AblationSpec,
    control_groups,
    cumulative_groups,
    edit_plan,
    measured_edit,
    random_direction_plan,
)
from .asking import BUILTIN, Asking, task_of
from .demo import BASE, steering_arm

STRENGTHS = (4.0, 8.0, 12.0, 16.0, 24.0)
GROUP_SIZES = (1, 2, 4, 8, 16)
CANDIDATES = 16
PROBLEMS = 256
DIRECTIONS = 20
"""Random directions of equal edit size beside the chosen edit."""
CONTROLS = 5


@dataclass(frozen=True)
class ModeChoice:
    """The group and strength chosen on development problems, its accuracy there, and how many settings were tried."""

    latents: tuple[int, ...]
    strength: float
    accuracy: float
    unsteered: float
    """Of the direct prompt without an edit on the same problems."""
    edit: float
    """Mean ‖delta‖/‖h‖ of the chosen edit there."""
    tried: int
    ranked: tuple[int, ...]
    """Candidates by their paired difference, largest first."""

    @property
    def operation(self) -> str:
        return f"raise {self.strength:g}f"


def mode_difference(
    model: LoadedModel, dictionary: Dictionary, problems: int = PROBLEMS, asking: Asking = BUILTIN
) -> PairedDifference:
    """z(reasoning prompt) - z(direct prompt) at the last prompt token, paired over the questions that are read."""
    asked = asking.questions(problems)
    return paired_difference(
        model, dictionary, asking.reading(model, asked, asking.reasoning), asking.reading(model, asked, asking.direct)
    )


def ranked_latents(difference: PairedDifference, statistics: LatentStatistics, n: int) -> tuple[int, ...]:
    """The `n` live latents of the largest paired difference, largest first."""
    order = np.argsort(-difference.difference.value, kind="stable")
    return tuple(int(j) for j in order if statistics.alive[int(j)])[:n]


def choose_mode(
    store: Store,
    models: dict[str, LoadedModel],
    dictionary: Dictionary,
    statistics: LatentStatistics,
    *,
    asking: Asking = BUILTIN,
    model: str = BASE,
    console: Console | None = None,
) -> ModeChoice:
    """Steer every candidate alone, and the first 2, 4, ... together, at every strength on the development splits."""
    difference = mode_difference(models[model], dictionary, asking=asking)
    ranked = ranked_latents(difference, statistics, max(CANDIDATES, *GROUP_SIZES))
    sizes = [n for n in GROUP_SIZES if 1 < n <= len(ranked)]
    groups = [*((j,) for j in ranked[:CANDIDATES]), *cumulative_groups(ranked, sizes)]
    settings = {f"{i:03d}-{s:g}": (group, s) for i, group in enumerate(groups) for s in STRENGTHS}
    arms = [Arm(name="direct", label="direct prompt", role="baseline", model=model, form=asking.direct)]
    used = {}
    for name, (group, strength) in settings.items():
        features = statistics.features(dictionary, group)
        used[features.digest] = features
        plan = edit_plan(features, f"raise {strength:g}f", "last_prompt")
        arms.append(
            steering_arm(name, f"{features.name} raised {strength:g}", "steered", plan, form=asking.direct, model=model)
        )
    spec = EvalSpec(
        name="mode-choice",
        task=task_of(asking),
        splits=dict(asking.development),
        arms=tuple(arms),
        generation=Generating(max_new_tokens=asking.max_new_tokens),
    )
    with progress("choosing latents and strength on development problems", console or talk()) as report:
        run = run_evaluation(spec, store, used, models=models, on_rows=report)
    frame = run.table(columns=["arm", "split", "correct", "trace_ok", "edit_ratio"]).to_pandas()
    frame["edit"] = frame["edit_ratio"].map(max)
    frame["verified"] = frame["trace_ok"].fillna(False).astype(float)
    means = frame.groupby(["arm", "split"])[["correct", "verified", "edit"]].mean().groupby("arm").mean().round(6)

    def merit(name: str) -> tuple[float, ...]:
        return means["correct"][name], means["verified"][name], -len(settings[name][0]), -means["edit"][name]

    best = max(settings, key=merit)
    group, strength = settings[best]
    before = float(means["correct"]["direct"])
    return ModeChoice(
        group, strength, float(means["correct"][best]), before, float(means["edit"][best]), len(settings), ranked
    )


def first_words(model: LoadedModel, problems: int = 64, asking: Asking = BUILTIN) -> str:
    """The first token that the model most often writes after the reasoning prompt, as text."""
    rows = [Row(ids) for ids in asking.prompts(model, asking.questions(problems), asking.reasoning)]
    found = [g.token_ids[0] for g in generate(model, rows, GenerationSettings(1), detail="tokens")]
    return str(model.tokenizer.decode([max(set(found), key=found.count)]))


def mode_run(
    store: Store,
    models: dict[str, LoadedModel],
    dictionary: Dictionary,
    statistics: LatentStatistics,
    choice: ModeChoice,
    *,
    asking: Asking = BUILTIN,
    model: str = BASE,
    console: Console | None = None,
) -> Run:
    """The test splits: the chosen edit under the direct prompt (the baseline) and the other forms, its controls, and the prompts."""
    split, count = next(iter(asking.development.items()))
    probe = AblationSpec(
        model=model,
        task=task_of(asking),
        form=asking.direct,
        splits={split: min(32, max(count, 1))},
        features=(choice.latents,),
    )
    chosen = statistics.features(dictionary, choice.latents)
    edit = edit_plan(chosen, choice.operation, "last_prompt")
    ratio = measured_edit(probe, models[model], edit)
    opening = f" {first_words(models[model], asking=asking).strip()}"
    used: dict[str, SteeringVector | Features] = {}
    arms = [
        Arm(name="direct", label="direct prompt", role="baseline", model=model, form=asking.direct),
        Arm(name="reasoning", label="reasoning prompt", role="reference", model=model, form=asking.reasoning),
        Arm(
            name="opening", label=f"direct prompt, begun with{opening!r}", role="prompt", model=model, form=asking.direct, opening=opening,
        ),
    ]  # fmt: skip

    def add(name: str, label: str, role: str, plan: Plan, form: str = asking.direct) -> None:
        used.update({i.vector.digest: i.vector for i in plan.interventions})
        arms.append(
            steering_arm(
                name,
                f"{'direct' if form == asking.direct else form} prompt, {label}",
                role,
                plan,
                form=form,
                model=model,
            )
        )

    for form in (asking.direct, *asking.others):
        if form != asking.direct:
            arms.append(Arm(name=form, label=f"{form} prompt", role="prompt", model=model, form=form))
        add(f"{form}-raised", f"{chosen.name} raised once", "steered", edit, form)
    for number, group in enumerate(control_groups(statistics, choice.latents, CONTROLS, choice.ranked, 0)):
        other = statistics.features(dictionary, group)
        add(
            f"control-{number}",
            f"{other.name} raised instead",
            "control",
            edit_plan(other, choice.operation, "last_prompt"),
        )
    for number in range(DIRECTIONS):
        turned = random_direction_plan(dictionary, ratio, "last_prompt", number)
        add(f"{asking.direct}-raised-random-{number}", f"random direction {number}", "control", turned)
    spec = EvalSpec(
        name="mode",
        task=task_of(asking),
        splits=dict(asking.test),
        arms=tuple(arms),
        generation=Generating(max_new_tokens=asking.max_new_tokens),
    )
    with progress("test problems", console or talk()) as report:
        return run_evaluation(spec, store, used, models=models, on_rows=report)


def find_mode(
    store: Store,
    dictionary: Dictionary,
    statistics: LatentStatistics,
    *,
    asking: Asking = BUILTIN,
    model: str = BASE,
    console: Console | None = None,
) -> tuple[ModeChoice, Run]:
    """Choice and result on a model and a task, by default the built-in ones. Raises BadInput as `Asking.check`."""
    asking.check()
    models = {model: load_model(model)}
    dictionary.check(models[model])
    if said := dictionary.origin(models[model]):
        warning(f"The autoencoder {said}", console)
    asking.say([models[model]], PROBLEMS, console)
    common = {"asking": asking, "model": model, "console": console}
    choice = choose_mode(store, models, dictionary, statistics, **common)  # type: ignore[arg-type]
    return choice, mode_run(store, models, dictionary, statistics, choice, **common)  # type: ignore[arg-type]
