"""The main job on the built-in pair: extract, choose on development problems, report on test problems.

1. Vectors come from training problems by two contrasts, at every layer: thinking minus base on the same tokens (last token of bare
   prompts), and think-first minus be-quick prompts within the base.
2. Contrast, layer and dose are chosen by accuracy on the development splits; the test splits are run once, with the choice fixed.
3. The choice is stored as a sweep, and what the base's latents respond to as a dashboard.
4. Every steered result stands beside random directions of equal edit size, each its own draw, its wrong sign, and the prompt that asks
   for the same.
5. All rows are stored; a second run reuses them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from saes.dashboard import FACTS, build_dashboard
from saes.loading import load_dictionary
from steering.extraction import checkpoint_difference, mean_difference
from steering.model.models import LoadedModel, load_model
from steering.model.sites import Site
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import SteeringVector, random_like

from ..evaluation.evaluate import run_evaluation
from ..evaluation.spec import EvalSpec, Generating
from ..progress import progress, talk
from ..store.runs import Arm, Run, Store
from ..sweeps.cells import read_cells
from ..sweeps.run import keep_card, plan_sweep
from ..sweeps.spec import Controls, Splits, SweepSpec
from .autoencoders import texts_of
from .readings import behaviour_readings, prompt_reading, sampled_traces, training_problems

BASE, THINKING = "builtin:base", "builtin:thinking"
CONTRASTS = ("gap", "mode")
"""Thinking minus base on bare prompts, and think-first minus be-quick prompts within the base."""
DOSES = (0.5, 1.0, 2.0, 4.0)
EXTRACTION_PROBLEMS = 256
BEHAVIOURS = {"checking": ("checking", "self-correcting")}
"""The behaviour that is measured, and the labels that show a trace to be of the kind that does it."""
DASHBOARD, DASHBOARD_PROBLEMS = ".dashboards/base", 64
"""Where the dashboard of the base's autoencoder lies in the store, and the problems whose texts it reads."""
DIRECTIONS = 20
"""Random directions beside a steered arm."""
BEHAVIOUR_DOSE = 1.0
"""Multiples of the vector's norm for the behaviour directions; chosen, with the layer, on development problems."""


@dataclass(frozen=True)
class Choice:
    """The setting chosen on development problems, its accuracy there, and how many settings were tried."""

    vector: SteeringVector
    dose: float
    accuracy: float
    tried: int
    run: str = ""
    """The run that holds the rows that chose."""
    cell: str = ""
    """Its cell in that run's sweep."""


def steering_arm(
    name: str, label: str, role: str, plan: Plan, description: str = "", form: str = "bare", model: str = BASE
) -> Arm:
    """An arm that carries a plan."""
    return Arm(name=name, label=label, role=role, model=model, form=form, plan=plan.to_dict(), description=description)  # type: ignore[arg-type]


def one_shot(vector: SteeringVector, dose: float) -> Plan:
    """Add the vector once, at the last prompt token."""
    return Plan((Intervention("add", vector, Span("last_prompt"), Dose(dose, "vector")),))


def along(vector: SteeringVector, dose: float) -> Plan:
    """Add the vector at every generated token."""
    return Plan((Intervention("add", vector, Span("generated"), Dose(dose, "vector")),))


def candidate_vectors(base: LoadedModel, thinking: LoadedModel) -> list[SteeringVector]:
    """Both contrasts at every layer."""
    problems = training_problems(EXTRACTION_PROBLEMS)
    sites = [Site(layer) for layer in range(base.n_layers)]
    bare = prompt_reading(base, problems, "bare")
    checkpoint = checkpoint_difference(base, thinking, bare, sites, name="thinking minus base, last prompt token")
    mode = mean_difference(
        base,
        prompt_reading(base, problems, "think"),
        prompt_reading(base, problems, "quick"),
        sites,
        name="think-first minus be-quick, last prompt token",
        contrast="mean at the last token of think-first prompts minus mean at the last token of be-quick prompts",
    )
    return [*checkpoint.values(), *mode.values()]


def choice_sweep(layers: int, n_dev: int) -> SweepSpec:
    """Every contrast, layer and dose on development problems, as a sweep; the vectors are files `gap-0.safetensors`, `mode-0.safetensors`
    and so on. Cells have no random directions of their own: the chosen one has them on test problems."""
    return SweepSpec(
        name="demo-choice", model=BASE, plan="add $contrast-$layer.safetensors ${dose}v on last_prompt",
        vary={"contrast": CONTRASTS, "layer": tuple(range(layers)), "dose": DOSES},
        splits=Splits(development={"standard-dev": n_dev, "hard-dev": max(1, n_dev // 2)}), controls=Controls(random=0),
    )  # fmt: skip


def choose(
    store: Store, models: dict[str, LoadedModel], vectors: list[SteeringVector], n_dev: int, console: Console
) -> Choice:
    """Run every vector at every dose on the development splits; the best mean accuracy wins, ties go to the smaller dose. `vectors`: per
    contrast, per layer."""
    layers = len(vectors) // len(CONTRASTS)
    sweep = choice_sweep(layers, n_dev)
    named = {
        (contrast, layer): vectors[i * layers + layer]
        for i, contrast in enumerate(CONTRASTS)
        for layer in range(layers)
    }
    with TemporaryDirectory() as folder:
        for (contrast, layer), vector in named.items():
            vector.save(Path(folder) / f"{contrast}-{layer}.safetensors")
        (planned,) = plan_sweep(sweep, Path(folder), models=models)
    with progress("choosing layer and dose on development problems", console) as report:
        run = run_evaluation(planned.spec, store, planned.vectors, models=models, on_rows=report)
    keep_card(run, sweep, planned.cells)
    table = run.table(columns=["arm", "split", "correct"]).to_pandas()
    means = table.groupby(["arm", "split"])["correct"].mean().groupby("arm").mean()
    cells = {cell.name: cell.settings for cell in planned.cells}
    best = max(cells, key=lambda name: (round(float(means[name]), 6), -float(cells[name]["dose"]), name))
    chosen = cells[best]
    vector = named[str(chosen["contrast"]), int(chosen["layer"])]
    return Choice(vector, float(chosen["dose"]), float(means[best]), len(cells), run.manifest.run_id, best)


def random_arms(
    name: str, label: str, vector: SteeringVector, plan: Callable[[SteeringVector], Plan], form: str = "bare"
) -> tuple[list[Arm], list[SteeringVector]]:
    """The random directions beside the arm `name`, and their vectors."""
    drawn = [random_like(vector, seed) for seed in range(DIRECTIONS)]
    arms = [
        steering_arm(
            f"{name}-random-{seed}", f"{label}, random direction {seed}", "control", plan(noise), "random direction of the same norm", form
        )
        for seed, noise in enumerate(drawn)
    ]  # fmt: skip
    return arms, drawn


def demo_arms(vector: SteeringVector, dose: float) -> tuple[tuple[Arm, ...], dict[str, SteeringVector]]:
    """The arms of the result table, and the vectors they use."""
    controls, drawn = random_arms("steered", "base", vector, lambda noise: one_shot(noise, dose))
    arms = (
        Arm(
            name="base_bare",
            label="base",
            role="baseline",
            model=BASE,
            form="bare",
            description="bare prompt, unsteered",
        ),
        Arm(name="base_think", label="base, asked to think first", role="prompt", model=BASE, form="think"),
        steering_arm(
            "steered",
            "base, steered",
            "steered",
            one_shot(vector, dose),
            f"{vector.name} at {vector.site}, dose {dose}",
        ),
        *controls,
        steering_arm(
            "wrong_sign", "base, wrong sign", "control", one_shot(vector, -dose), "the same vector subtracted"
        ),
        Arm(
            name="thinking",
            label="thinking",
            role="reference",
            model=THINKING,
            form="bare",
            description="bare prompt, unsteered",
        ),
    )
    return arms, {v.digest: v for v in (vector, *drawn)}


def behaviour_run(store: Store, models: dict[str, LoadedModel], n: int, console: Console) -> Run:
    """More than the first token: each behaviour direction added and subtracted along sampled think-first traces of the base, beside random
    directions of equal edit size (whose distribution has no sign). Rates come from the grammar's exact labels."""
    model = models[BASE]
    problems = training_problems(EXTRACTION_PROBLEMS, seed=1)
    traces = sampled_traces(model, problems, form="think")
    site = Site(model.n_layers // 2)
    arms = [Arm(name="unsteered", label="unsteered", role="baseline", model=BASE, form="think")]
    vectors: dict[str, SteeringVector] = {}
    for label, shown_by in BEHAVIOURS.items():
        behaving, others = behaviour_readings(model, problems, traces, shown_by)
        contrast = f"ends of computed lines after the first {' or '.join(shown_by)} of a trace minus those before it"
        vector = mean_difference(model, behaving, others, [site], name=label, contrast=contrast)[site]
        for sign, word in ((1, "plus"), (-1, "minus")):
            plan = along(vector, sign * BEHAVIOUR_DOSE)
            arms.append(steering_arm(f"{label}_{word}", f"{label}, {word}", "steered", plan, form="think"))
        controls, drawn = random_arms(
            f"{label}_plus", label, vector, lambda noise: along(noise, BEHAVIOUR_DOSE), form="think"
        )
        arms += controls
        vectors |= {v.digest: v for v in (vector, *drawn)}
    spec = EvalSpec(
        name="demo-behaviours",
        splits={"standard-test": n},
        arms=tuple(arms),
        generation=Generating(temperature=1.0, seeds=(0,)),
    )
    with progress("steering behaviours along sampled traces", console) as report:
        return run_evaluation(spec, store, vectors, models=models, on_rows=report)


def run_demo(
    store: Store, *, n: int = 200, n_dev: int = 48, n_behaviour: int = 64, console: Console | None = None
) -> tuple[Choice, Run, Run]:
    """The whole demo; returns the choice, the result run and the behaviour run."""
    console = console or talk()
    models = {name: load_model(name) for name in (BASE, THINKING)}
    console.print(f"Extracting vectors from {BASE} and {THINKING} on {EXTRACTION_PROBLEMS} training problems ...")
    choice = choose(store, models, candidate_vectors(models[BASE], models[THINKING]), n_dev, console)
    console.print(
        f"Chosen of {choice.tried} settings: {choice.vector.name} at {choice.vector.site}, dose {choice.dose} "
        f"(development accuracy {choice.accuracy:.1%})"
    )
    arms, vectors = demo_arms(choice.vector, choice.dose)
    spec = EvalSpec(name="demo", splits={"standard-test": n, "hard-test": n, "new-map-test": n}, arms=arms)
    with progress("test problems, every arm", console) as report:
        run = run_evaluation(spec, store, vectors, models=models, on_rows=report)
    tried = store.open(choice.run)
    layers = models[BASE].n_layers
    keep_card(
        tried, choice_sweep(layers, n_dev), tuple(read_cells(tried)), result=run.manifest.run_id, chosen=choice.cell
    )
    behaviours = behaviour_run(store, models, n_behaviour, console)
    _dashboard(store, models[BASE], console)
    return choice, run, behaviours


def _dashboard(store: Store, base: LoadedModel, console: Console) -> None:
    """What the latents of the base's autoencoder respond to, for the app; a store at a URL has none."""
    folder = store.root / DASHBOARD
    if not isinstance(store.root, Path) or (folder / FACTS).is_file():
        return
    console.print(f"Reading what the latents of {BASE}'s autoencoder respond to ...")
    texts = texts_of(base, None, DASHBOARD_PROBLEMS)
    build_dashboard(base, load_dictionary(BASE, model=base), texts, folder)
