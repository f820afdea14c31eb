"""How often a sweep calls something real that is not, and finds what is: sweeps of pure random directions on the built-in base.

`python -m benchmarks.null_sweeps pool.npz [--directions 1100] [--items 32] [--sweeps 400]` first writes a pool: for each size of edit (in
units of the activation's norm), the answers of the base steered once at the last prompt token along many random directions and along a
real one, on development and on test problems. Sweeps are then drawn from the pool: 48 cells are 48 random directions; the best on
development problems is judged by pseudo-sweeps and on test problems against fresh directions, as `experiments.sweeps.verdict` does.
Beside it stands what the same sweeps give with one random direction per cell as the control.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from experiments.statistics import LEVEL, against_directions, holm, paired_difference, rank_p

SIZES = (0.2, 1.0, 2.0)
LAYER = 1
CELLS, PSEUDO, FRESH = 48, 20, 39
MODEL = "builtin:base"


def make_pool(path: Path, directions: int, items: int) -> None:
    """Answers `[sizes, directions + 1, items]` on development and test problems, the real direction last; unsteered `[items]`."""
    from experiments.studies.readings import prompt_reading, training_problems
    from experiments.tasks.task import resolve_task
    from steering.engine.generation import Row, generate
    from steering.engine.sampling import GenerationSettings
    from steering.extraction import mean_difference
    from steering.model.models import load_model
    from steering.model.prompts import encode_prompt
    from steering.model.sites import Site
    from steering.plan.plan import Dose, Intervention, Plan, Span
    from steering.vector.vectors import random_like

    model, task = load_model(MODEL), resolve_task("find-start")
    problems, site = training_problems(256), Site(LAYER)
    readings = (prompt_reading(model, problems, form) for form in ("think", "quick"))
    real = mean_difference(model, *readings, [site], name="mode", contrast="think minus quick")[site]
    drawn = [*(random_like(real, seed) for seed in range(directions)), real]
    found: dict[str, np.ndarray] = {}
    for name in ("standard-dev", "standard-test"):
        asked = task.items(name, items)
        prompts = [encode_prompt(model, task.prompt(item, "bare")) for item in asked]

        def right(plans: list[Plan], prompts=prompts, asked=asked) -> np.ndarray:  # type: ignore[no-untyped-def]
            rows = [Row(ids, plan) for ids in prompts for plan in plans]
            made = generate(model, rows, GenerationSettings(360), batch_size=256, detail="tokens")
            texts = [model.tokenizer.decode(g.token_ids, skip_special_tokens=True) for g in made]
            grades = [
                task.grade(item, text).correct for item, text in zip(np.repeat(asked, len(plans)), texts, strict=True)
            ]
            return np.array(grades, bool).reshape(len(asked), len(plans)).T

        found[f"{name} unsteered"] = right([Plan()])[0]
        for size in SIZES:
            plans = [Plan((Intervention("add", v, Span("last_prompt"), Dose(size, "residual")),)) for v in drawn]
            parts = [right(plans[start : start + 60]) for start in range(0, len(plans), 60)]
            found[f"{name} {size:g}"] = np.concatenate(parts)
            print(f"{name}, {size:g} r: {found[f'{name} {size:g}'].shape}", flush=True)
    np.savez_compressed(path, **found)


def judge(
    pool: dict[str, np.ndarray], size: float, rng: np.random.Generator, cells: int, planted: bool
) -> dict[str, bool]:
    """One sweep at one size: what each rule calls real (of a planted direction, whether it is the one)."""
    dev, test = pool[f"standard-dev {size:g}"].astype(float), pool[f"standard-test {size:g}"].astype(float)
    base, base_test = pool["standard-dev unsteered"].astype(float), pool["standard-test unsteered"].astype(float)
    order = rng.permutation(len(dev) - 1)
    chosen = order[:cells].copy()
    if planted:
        chosen[0] = len(dev) - 1
    own = dev[chosen]
    best = int(np.argmax(own.mean(axis=1)))
    others = [rng.permutation(len(dev) - 1)[:cells] for _ in range(PSEUDO)]
    choice = rank_p(float(own[best].mean()), [dev[o].mean(axis=1).max() for o in others])
    winner, fresh = test[chosen[best]], test[order[cells : cells + FRESH]]
    found = against_directions(winner, fresh)
    gained = paired_difference(base_test, winner, resamples=1).interval.low > 0
    tested = found.rank_p <= LEVEL and found.interval.low > 0 and gained
    single = [dev[i] for i in order[cells : 2 * cells]]
    adjusted = holm([paired_difference(base, row, resamples=1).p for row in own])
    over = [paired_difference(c, row, resamples=1).interval.low > 0 for c, row in zip(single, own, strict=True)]
    one = any(p <= LEVEL and low and row.mean() > base.mean() for p, low, row in zip(adjusted, over, own, strict=True))
    right = not planted or best == 0
    return {
        "real": bool(choice <= LEVEL and tested and right),
        "choice alone": bool(choice <= LEVEL and right),
        "test problems alone": bool(tested and right),
        "one control per cell": bool(one),
    }


def main() -> None:
    """Make the pool where it is missing, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pool", type=Path)
    parser.add_argument("--directions", type=int, default=1100)
    parser.add_argument("--items", type=int, default=32)
    parser.add_argument("--sweeps", type=int, default=400)
    given = parser.parse_args()
    if not given.pool.exists():
        make_pool(given.pool, given.directions, given.items)
    pool = dict(np.load(given.pool))
    base = pool["standard-test unsteered"].mean()
    heads = ("edit", "random directions: right % (quartiles, largest)", "real direction", "sweeps")
    rules = ("real", "choice alone", "test problems alone", "one control per cell")
    print(f"| {' | '.join((*heads, *rules))} |")
    print("|" + "---|" * 8)
    for size in SIZES:
        means = pool[f"standard-test {size:g}"].mean(axis=1)
        quartiles = ", ".join(f"{100 * q:.0f}" for q in np.quantile(means[:-1], [0.25, 0.5, 0.75, 1]))
        for what, cells, planted in (
            ("random", CELLS, False),
            ("random", 4, False),
            ("one real", 4, True),
            ("one real", CELLS, True),
        ):
            rng = np.random.default_rng(int(10 * size) + cells + planted)
            judged = [judge(pool, size, rng, cells, planted) for _ in range(given.sweeps)]
            shares = " | ".join(f"{sum(r[name] for r in judged)} of {given.sweeps}" for name in rules)
            print(
                f"| {size:g} r | {quartiles} | {100 * means[-1]:.0f} | {cells} cells, {what} | {shares} |", flush=True
            )
    print(f"\nUnsteered: {100 * base:.0f} % right.")


if __name__ == "__main__":
    main()
