"""At which layer a direction acts: chosen by exact patching and by attribution patching, then put to the test in a held-out sweep.

1. Vectors come from training problems at every layer. The layer is chosen on development problems by the effect of the vector at
   the last prompt token on the log-odds that the next token begins reasoning; no text is generated for it.
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
from steering.model.prompts import encode_prompt
from steering.model.sites import Site
from steering.vector.vectors import SteeringVector

from ..evaluation.evaluate import run_evaluation
from ..evaluation.spec import EvalSpec
from ..pair.problem import split_problems
from ..statistics import Interval, PairedDifference, holm, paired_difference, wilson
from ..store.runs import Arm, Run, Store
from .ablation import item_values
from .demo import BASE, EXTRACTION_PROBLEMS, THINKING, one_shot, steering_arm
from .readings import prompt_reading, training_problems

CONTRASTS = ("checkpoint", "mode")
"""`checkpoint`: thinking minus base on bare prompts; `mode`: think-first minus be-quick prompts within the base."""
DEVELOPMENT = ("standard-dev", "hard-dev")
TEST = ("standard-test", "hard-test")
POSITIONS = (-1, -2, -3, -4, -5, -6)
"""Positions of the map over layer and position, from the end of the prompt."""


def layer_vectors(
    base: LoadedModel, thinking: LoadedModel, contrast: str, problems: int = EXTRACTION_PROBLEMS
) -> list[SteeringVector]:
    """The direction at the output of every layer, at the last token of training prompts. Raises BadInput for an unknown contrast."""
    if contrast not in CONTRASTS:
        raise unknown("contrast", contrast, CONTRASTS)
    asked, sites = training_problems(problems), [Site(layer) for layer in range(base.n_layers)]
    if contrast == "checkpoint":
        name = "thinking minus base, last prompt token"
        found = checkpoint_difference(base, thinking, prompt_reading(base, asked, "bare"), sites, name=name)
    else:
        think, quick = (prompt_reading(base, asked, form) for form in ("think", "quick"))
        text = "mean at the last token of think-first prompts minus mean at the last token of be-quick prompts"
        found = mean_difference(
            base, think, quick, sites, name="think-first minus be-quick, last prompt token", contrast=text
        )
    return [found[site] for site in sites]


def starting_tokens(base: LoadedModel, problems: int = EXTRACTION_PROBLEMS) -> tuple[int, ...]:
    """First tokens that the base samples when asked to think first and never when asked to be quick, on training problems.

    Raises BadInput when there are none.
    """
    first: dict[str, set[int]] = {}
    for form in ("think", "quick"):
        rows = [
            Row(encode_prompt(base, p.prompt(form)), seed=i)  # type: ignore[arg-type]
            for i, p in enumerate(training_problems(problems))
        ]
        settings = GenerationSettings(1, temperature=1.0)
        first[form] = {g.token_ids[0] for g in generate(base, rows, settings, batch_size=128, detail="tokens")}
    found = tuple(sorted(first["think"] - first["quick"]))
    if not found:
        raise BadInput(f"{base.id} begins alike whether asked to think first or to be quick.")
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
    n_dev: int,
) -> LayerChoice:
    """Rank the vectors' layers by both methods on `n_dev` bare development problems of each difficulty."""
    prompts = [
        encode_prompt(base, problem.prompt("bare")) for split in DEVELOPMENT for problem in split_problems(split, n_dev)
    ]
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
    n: int,
    on_rows: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Steer once at the last prompt token, layer by layer, on `n` test problems of each difficulty, greedily."""
    arms = [Arm(name="base_bare", label="base", role="baseline", model=BASE, form="bare")]
    for vector in vectors:
        layer = vector.site.layer
        arms.append(
            steering_arm(f"layer_{layer}", f"base, steered at layer {layer}", "steered", one_shot(vector, choice.dose))
        )
    spec = EvalSpec(name=f"layers-{choice.contrast}", splits=dict.fromkeys(TEST, n), arms=tuple(arms))
    run = run_evaluation(spec, store, {v.digest: v for v in vectors}, models=models, on_rows=on_rows)
    found = item_values(run, "correct")
    correct = {arm.name: np.concatenate([found[split][arm.name] for split in TEST]) for arm in arms}
    chosen, *others = choice.ranked()
    worst = others[-1]
    against = {layer: paired_difference(correct[f"layer_{layer}"], correct[f"layer_{chosen}"]) for layer in others}
    adjusted = dict(zip(others, holm([d.p for d in against.values()]), strict=True))
    return Sweep(
        run, chosen, worst, {name: float(values.mean()) for name, values in correct.items()}, against, adjusted
    )


def writers(base: LoadedModel, vector: SteeringVector, n: int) -> pd.DataFrame:
    """What writes the direction when the base is asked to think first rather than to be quick: by part, the mean contribution at the last
    prompt token of each kind of prompt, on `n` development problems of each difficulty, the largest difference first."""
    problems = [problem for split in DEVELOPMENT for problem in split_problems(split, n)]
    tables: Mapping[str, pd.DataFrame] = {
        form: contributions(
            base,
            vector.direction,
            [encode_prompt(base, p.prompt(form)) for p in problems],  # type: ignore[arg-type]
            [(-1,)] * len(problems),
            layer=vector.site.layer,
        ).mean()
        for form in ("think", "quick")
    }
    keys = ["component", "layer", "head"]
    both = tables["think"].merge(tables["quick"], on=keys, suffixes=("_think", "_quick"))
    both["difference"] = both.contribution_think - both.contribution_quick
    return both.sort_values("difference", key=lambda c: -c.abs(), kind="stable").reset_index(drop=True)


def run_layer_choice(
    store: Store,
    models: dict[str, LoadedModel],
    *,
    contrast: str = "checkpoint",
    dose: float = 1.0,
    n: int = 200,
    n_dev: int = 48,
    on_rows: Callable[[int, int], None] | None = None,
) -> tuple[LayerChoice, Sweep, pd.DataFrame]:
    """The whole of it on the built-in pair: the choice, the sweep, and what writes the direction at the chosen layer."""
    base, thinking = models[BASE], models[THINKING]
    vectors = layer_vectors(base, thinking, contrast)
    choice = choose_layer(base, vectors, starting_tokens(base), contrast=contrast, dose=dose, n_dev=n_dev)
    sweep = sweep_layers(store, models, vectors, choice, n=n, on_rows=on_rows)
    return choice, sweep, writers(base, vectors[choice.ranked()[0]], n_dev)
