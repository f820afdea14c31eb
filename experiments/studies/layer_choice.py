"""At which layer a direction acts: chosen by exact patching and by attribution patching, then put to the test in a held-out sweep.

1. Vectors come from questions that are read, at every layer. The layer is chosen on development questions by the effect of the vector at
   the last prompt token on the log-odds that the next token begins reasoning; no text is generated for it. On any task with a direct and a
   reasoning form (`asking`); on the built-in one, which is the default, the bare prompt is steered, elsewhere the direct one.
2. Both methods rank the same layers with the same metric, dose and problems. Their agreement is a rank correlation over layers,
   over layer and position, and within each problem, each with its n; and the share of problems on which both name the same layer.
3. The sweep runs every layer on test problems through the ordinary evaluation. The comparison that the choice is judged by is
   fixed before it: the layer ranked first on development problems against the one ranked last, paired over problems. The others
   stand beside it, with p adjusted for their number.

Source: layer choice by attribution patching, Venhoff et al. 2506.18167, section 4; the metric is not theirs
(`steering.attribution.metric`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from steering.attribution import attributed, contributions, log_odds, patched
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput, unknown
from steering.extraction import checkpoint_difference, mean_difference
from steering.model.models import LoadedModel
from steering.model.sites import Site
from steering.vector.vectors import SteeringVector

from ..evaluation.evaluate import run_evaluation
from ..evaluation.spec import EvalSpec, Generating
from ..statistics import Interval, PairedDifference, holm, paired_difference, wilson
from ..store.runs import Arm, Run, Store
from ..tasks.items import Item
from .ablation import item_values
from .asking import BUILTIN, Asking, task_of
from .demo import BASE, EXTRACTION_PROBLEMS, THINKING, one_shot, steering_arm

CONTRASTS = ("checkpoint", "mode")
"""`checkpoint`: thinking minus base on the prompts that are steered; `mode`: the reasoning form minus the direct form within the base."""
DEVELOPMENT = ("standard-dev", "hard-dev")
TEST = ("standard-test", "hard-test")
BASELINE = "base_bare"
POSITIONS = (-1, -2, -3, -4, -5, -6)
"""Positions of the map over layer and position, from the end of the prompt."""


def builtin_asking(n: int, n_dev: int) -> Asking:
    """The built-in task with `n` test and `n_dev` development problems of each difficulty."""
    return Asking(development=dict.fromkeys(DEVELOPMENT, n_dev), test=dict.fromkeys(TEST, n))


def steered_form(asking: Asking) -> str:
    """The prompt form that the direction is added to."""
    return "bare" if asking.builtin else asking.direct


def layer_vectors(
    base: LoadedModel,
    thinking: LoadedModel | None,
    contrast: str,
    problems: int = EXTRACTION_PROBLEMS,
    asking: Asking = BUILTIN,
) -> list[SteeringVector]:
    """The direction at the output of every layer, at the last token of prompts that are read. Raises BadInput for an unknown contrast, and
    for a checkpoint contrast without a thinking model."""
    if contrast not in CONTRASTS:
        raise unknown("contrast", contrast, CONTRASTS)
    asked, sites = asking.questions(problems), [Site(layer) for layer in range(base.n_layers)]
    if contrast == "checkpoint":
        if thinking is None:
            raise BadInput("The contrast checkpoint needs a thinking model.")
        read = asking.reading(base, asked, steered_form(asking))
        found = checkpoint_difference(base, thinking, read, sites, name="thinking minus base, last prompt token")
    else:
        wanted, other = ("think-first", "be-quick") if asking.builtin else (asking.reasoning, asking.direct)
        text = f"mean at the last token of {wanted} prompts minus mean at the last token of {other} prompts"
        think, direct = (asking.reading(base, asked, form) for form in (asking.reasoning, asking.direct))
        found = mean_difference(
            base, think, direct, sites, name=f"{wanted} minus {other}, last prompt token", contrast=text
        )
    return [found[site] for site in sites]


def starting_tokens(
    base: LoadedModel, problems: int = EXTRACTION_PROBLEMS, asking: Asking = BUILTIN
) -> tuple[int, ...]:
    """First tokens that the base samples in the reasoning form and never in the direct one, on questions that are read.

    Raises BadInput when there are none.
    """
    first: dict[str, set[int]] = {}
    for form in (asking.reasoning, asking.direct):
        asked = asking.prompts(base, asking.questions(problems), form)
        rows = [Row(ids, seed=i) for i, ids in enumerate(asked)]
        settings = GenerationSettings(1, temperature=1.0)
        first[form] = {g.token_ids[0] for g in generate(base, rows, settings, batch_size=128, detail="tokens")}
    found = tuple(sorted(first[asking.reasoning] - first[asking.direct]))
    if not found:
        raise BadInput(f"{base.id} begins alike in the forms {asking.reasoning} and {asking.direct}.")
    return found


@dataclass(frozen=True)
class Agreement:
    """How two rankings of the same things agree."""

    over: str
    rho: float
    """Spearman's rank correlation; of `problems`, its mean within a problem."""
    n: int
    """Things ranked; of `problems`, problems."""
    interval: Interval | None = None
    """Over problems, bootstrap; None for one ranking of few things."""


@dataclass(frozen=True)
class LayerChoice:
    """What both methods say about the layers, on development problems."""

    contrast: str
    dose: float
    starts: tuple[str, ...]
    """The tokens that begin reasoning."""
    layers: pd.DataFrame
    """layer, norm of the vector, mean `exact` and `attributed` effect in nats of log-odds, at the last prompt token."""
    cells: pd.DataFrame
    """The same by layer and offset from the prompt's end."""
    agreement: tuple[Agreement, ...]
    same_layer: tuple[int, int, Interval]
    """Problems on which both name the same layer, of how many, and the share's interval."""

    def ranked(self, method: str = "exact") -> list[int]:
        """Layers by mean effect, the largest first."""
        return [int(layer) for layer in self.layers.sort_values(method, ascending=False, kind="stable").layer]


def choose_layer(
    base: LoadedModel,
    vectors: Sequence[SteeringVector],
    starts: Sequence[int],
    *,
    contrast: str,
    dose: float,
    asking: Asking = BUILTIN,
) -> LayerChoice:
    """Rank the vectors' layers by both methods on the development questions."""
    prompts = asking.prompts(base, _development(asking), steered_form(asking))
    metric = log_odds(prompts, starts)
    slope = attributed(base, vectors, metric, POSITIONS, dose=dose)
    effects = patched(base, vectors, metric, POSITIONS, dose=dose).rename(columns={"effect": "exact"})
    effects["attributed"] = slope.effect
    cells = effects.groupby(["layer", "offset"])[["exact", "attributed"]].mean().reset_index()
    last = effects[effects.offset == -1]
    layers = last.groupby("layer")[["exact", "attributed"]].mean().reset_index()
    layers.insert(1, "norm", [v.norm for v in vectors])
    own = np.array([_rho(part.exact, part.attributed) for _, part in last.groupby("row")])
    within = paired_difference(np.zeros(len(own)), own)
    best = last.pivot(index="row", columns="layer", values=["exact", "attributed"])
    same = int((best["exact"].to_numpy().argmax(1) == best["attributed"].to_numpy().argmax(1)).sum())
    return LayerChoice(
        contrast,
        dose,
        tuple(base.tokenizer.convert_ids_to_tokens(list(starts))),
        layers,
        cells,
        (
            Agreement("layers", _rho(layers.exact, layers.attributed), len(layers)),
            Agreement("layers and positions", _rho(cells.exact, cells.attributed), len(cells)),
            Agreement("problems", within.difference, within.n, within.interval),
        ),
        (same, len(own), wilson(same, len(own))),
    )


def _development(asking: Asking) -> list[Item]:
    return [item for split, n in asking.development.items() for item in asking.found.items(split, n)]


def _rho(a: pd.Series, b: pd.Series) -> float:
    return float(spearmanr(a, b).statistic)


@dataclass(frozen=True)
class Sweep:
    """Every layer on test problems."""

    run: Run
    chosen: int
    worst: int
    """The layers ranked first and last on development problems, by exact patching."""
    accuracy: dict[str, float]
    """By arm, over both difficulties."""
    against: dict[int, PairedDifference]
    """The chosen layer minus each other one, paired over problems."""
    adjusted: dict[int, float]
    """Their p, adjusted for their number (Holm)."""


def sweep_layers(
    store: Store,
    models: dict[str, LoadedModel],
    vectors: Sequence[SteeringVector],
    choice: LayerChoice,
    *,
    asking: Asking = BUILTIN,
    model: str = BASE,
    on_rows: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Steer once at the last prompt token, layer by layer, on the test questions, greedily."""
    form = steered_form(asking)
    arms = [Arm(name=BASELINE, label="base", role="baseline", model=model, form=form)]
    for vector in vectors:
        layer = vector.site.layer
        arms.append(
            steering_arm(
                f"layer_{layer}",
                f"base, steered at layer {layer}",
                "steered",
                one_shot(vector, choice.dose),
                form=form,
                model=model,
            )
        )
    spec = EvalSpec(
        name=f"layers-{choice.contrast}", task=task_of(asking), splits=dict(asking.test), arms=tuple(arms),
        generation=Generating(max_new_tokens=asking.max_new_tokens),
    )  # fmt: skip
    run = run_evaluation(spec, store, {v.digest: v for v in vectors}, models=models, on_rows=on_rows)
    found = item_values(run, "correct")
    correct = {arm.name: np.concatenate([found[split][arm.name] for split in asking.test]) for arm in arms}
    chosen, *others = choice.ranked()
    worst = others[-1]
    against = {layer: paired_difference(correct[f"layer_{layer}"], correct[f"layer_{chosen}"]) for layer in others}
    adjusted = dict(zip(others, holm([d.p for d in against.values()]), strict=True))
    return Sweep(
        run, chosen, worst, {name: float(values.mean()) for name, values in correct.items()}, against, adjusted
    )


def writers(base: LoadedModel, vector: SteeringVector, asking: Asking = BUILTIN) -> pd.DataFrame:
    """What writes the direction when the base is asked to think first rather than directly: by part, the mean contribution at the last
    prompt token of each kind of prompt, on the development questions, the largest difference first."""
    items = _development(asking)
    tables: Mapping[str, pd.DataFrame] = {
        kind: contributions(
            base, vector.direction, asking.prompts(base, items, form), [(-1,)] * len(items), layer=vector.site.layer
        ).mean()
        for kind, form in (("reasoning", asking.reasoning), ("direct", asking.direct))
    }
    keys = ["component", "layer", "head"]
    both = tables["reasoning"].merge(tables["direct"], on=keys, suffixes=("_reasoning", "_direct"))
    both["difference"] = both.contribution_reasoning - both.contribution_direct
    return both.sort_values("difference", key=lambda c: -c.abs(), kind="stable").reset_index(drop=True)


def run_layer_choice(
    store: Store,
    models: dict[str, LoadedModel],
    *,
    contrast: str = "checkpoint",
    dose: float = 1.0,
    asking: Asking = BUILTIN,
    model: str = BASE,
    thinking: str | None = THINKING,
    on_rows: Callable[[int, int], None] | None = None,
) -> tuple[LayerChoice, Sweep, pd.DataFrame]:
    """The choice, the sweep, and what writes the direction at the chosen layer; by default of the built-in pair. Raises BadInput as
    `Asking.check`."""
    asking.check()
    base, other = models[model], models[thinking] if thinking else None
    problems = sum(asking.read.values()) or EXTRACTION_PROBLEMS
    vectors = layer_vectors(base, other, contrast, problems, asking)
    starts = starting_tokens(base, problems, asking)
    choice = choose_layer(base, vectors, starts, contrast=contrast, dose=dose, asking=asking)
    sweep = sweep_layers(store, models, vectors, choice, asking=asking, model=model, on_rows=on_rows)
    return choice, sweep, writers(base, vectors[choice.ranked()[0]], asking)
