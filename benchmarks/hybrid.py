"""What hybrid decoding costs: its tokens per second against the bound 1 / (1/base + 1/thinking + steered fraction / base).

Base alone, thinking model alone and hybrid take turns on the same queue of prompts, so that a drift of the machine meets all three;
the ratio is taken within each round. Also timed, in the same rounds, is a hybrid without the thinking model.

`python -m benchmarks.hybrid` (random pairs of benchmark sizes that disagree at some share of the tokens, batch 16), or `--run FOLDER` for
the arms of a stored hybrid run on the built-in pair.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from experiments.evaluation.hybrids import stored_controller
from experiments.pair.problem import split_problems
from experiments.store.runs import Store
from experiments.studies.hybrid.report import hybrid_frame
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.hybrid import Controller, HybridRow, Readout, ShiftBank, decode
from steering.model.models import LoadedModel, load_model
from steering.model.prompts import encode_prompt
from steering.model.sites import Site

from .workloads import SIZES, end_ids, prompts, save_model

CATEGORIES, HIDDEN = 10, 512
QUEUED = 4
"""Rows per place: what is timed is a queue, as in an evaluation."""
ENDING = 0.02
"""Share of the vocabulary that ends a text."""


@dataclass(frozen=True)
class HybridCost:
    """Medians over rounds, with the range of the ratio."""

    batch: int
    steered: float
    """Share of tokens that were gated."""
    base: float
    """Tokens per second of each alone, and of the hybrids."""
    thinking: float
    hybrid: float
    free: float
    """Of a hybrid that decides within the base's own reading."""
    free_steered: float
    ratio: float
    """Hybrid over its bound."""
    ratio_range: tuple[float, float]
    free_cost: float
    """Cost per token of the free hybrid over the two-model hybrid's."""
    free_range: tuple[float, float]


def disagreeing(base: LoadedModel, folder: str, share: float, asked: list[tuple[int, ...]], new: int) -> LoadedModel:
    """A copy of the base with noise on its weights, so that their greedy tokens differ at about `share` of the tokens."""
    base.__dict__["eos_ids"] = frozenset()  # texts of one length, to compare token by token
    low, high = 0.0, 0.3
    other = load_model(folder)
    weights = {name: value.clone() for name, value in base.model.state_dict().items()}
    texts = torch.tensor([(*g.prompt_ids, *g.token_ids) for g in _plain(base, [a[:16] for a in asked], new)])
    with torch.inference_mode():
        mine = base.model(input_ids=texts).logits[:, 16:].argmax(-1)
        for _ in range(9):
            size = (low + high) / 2
            noise = torch.Generator().manual_seed(0)
            for name, parameter in other.model.named_parameters():
                drawn = torch.randn(parameter.shape, generator=noise)
                parameter.copy_(weights[name] + (size * weights[name].std() * drawn if parameter.ndim == 2 else 0))
            found = float((other.model(input_ids=texts).logits[:, 16:].argmax(-1) != mine).float().mean())
            low, high = (size, high) if found < share else (low, size)
    return other


def _plain(model: LoadedModel, asked: list[tuple[int, ...]], new: int, batch: int = 64) -> list:
    return generate(model, [Row(ids) for ids in asked], GenerationSettings(new), batch_size=batch)


def hybrid_cost(
    base: LoadedModel, thinking: LoadedModel, batch: int, new: int, rounds: int, share: float
) -> HybridCost:
    """Time the three in turn. Texts end at one of many tokens, so that lengths vary and rows are refilled, as in an evaluation."""
    for model in (base, thinking):
        model.__dict__["eos_ids"] = frozenset(end_ids(base.model.config.vocab_size, ENDING))
    asked = list(prompts(QUEUED * batch, 16, 48, base.model.config.vocab_size))
    draw, width = torch.Generator().manual_seed(0), base.d_model
    site = Site(3 * base.n_layers // 8)
    bank = ShiftBank(
        site, torch.randn(CATEGORIES, width, generator=draw), torch.randn(1, HIDDEN, width, generator=draw) / width,
        torch.full((1, HIDDEN), 0.5), torch.randn(CATEGORIES, HIDDEN, generator=draw) / HIDDEN, torch.full((CATEGORIES,), 0.5),
    )  # fmt: skip

    def readout(n: int, where: Site) -> Readout:
        return Readout(where, torch.randn(n, width, generator=draw), torch.zeros(n), torch.zeros(width), True)

    whole = Controller("disagreement", "thinking", bank=bank, categories=readout(CATEGORIES, Site(base.n_layers // 2)))
    trigger, guess = readout(1, site), readout(CATEGORIES, site)
    likely = 0.8
    free = Controller("trigger", "base", bank=bank, categories=guess, trigger=trigger, threshold=likely, revert=False)
    settings = GenerationSettings(new)

    def hybrid(rule: Controller) -> Callable[[], tuple[int, int]]:
        def run() -> tuple[int, int]:
            found = decode(
                base,
                thinking if rule is whole else None,
                [HybridRow(a, rule) for a in asked],
                settings,
                batch_size=batch,
            )
            return sum(len(g.token_ids) for g in found), sum(len(g.choices) for g in found)

        return run

    def alone(model: LoadedModel) -> Callable[[], tuple[int, int]]:
        return lambda: (sum(len(g.token_ids) for g in _plain(model, asked, new, batch)), 0)

    runs = {"base": alone(base), "thinking": alone(thinking), "hybrid": hybrid(whole), "free": hybrid(free)}
    for run in runs.values():
        run()
    rates: dict[str, list[float]] = {name: [] for name in runs}
    steered: dict[str, float] = {}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            tokens, gated = run()
            rates[name].append(tokens / (time.perf_counter() - start))
            steered[name] = gated / tokens
    f = steered["hybrid"]
    ratios = [
        h * ((1 + f) / b + 1 / t) for h, b, t in zip(rates["hybrid"], rates["base"], rates["thinking"], strict=True)
    ]
    costs = [h / c for h, c in zip(rates["hybrid"], rates["free"], strict=True)]
    middle = {name: statistics.median(values) for name, values in rates.items()}
    return HybridCost(
        batch, f, middle["base"], middle["thinking"], middle["hybrid"], middle["free"], steered["free"],
        statistics.median(ratios), (min(ratios), max(ratios)), statistics.median(costs), (min(costs), max(costs)),
    )  # fmt: skip


def stored_cost(folder: Path, batch: int, rounds: int, n: int = 64) -> None:
    """Time arms of a stored hybrid run on its first test problems, against base and thinking model alone on texts of like length."""
    run = Store(folder.parent).open(folder.name)
    models = {name: load_model(name) for name in ("builtin:base", "builtin:thinking")}
    base, thinking = models.values()
    problems = split_problems("hard-test", n)
    settings = GenerationSettings(360)
    arms = {
        a.name: stored_controller(folder / "controllers", a.controller)
        for a in run.manifest.arms
        if a.controller is not None
    }
    chosen = [name for name in ("hybrid", "probe", "probe_kept", "entropy") if name in arms]

    def alone(model: LoadedModel, form: str) -> Callable[[], int]:
        ids = [encode_prompt(model, p.prompt(form)) for p in problems]  # type: ignore[arg-type]
        return lambda: sum(len(g.token_ids) for g in _plain(model, ids, 360, batch))

    def hybrid(rule: Controller) -> Callable[[], int]:
        rows = [HybridRow(encode_prompt(base, p.prompt("bare")), rule) for p in problems]
        beside = thinking if rule.needs_thinking else None
        return lambda: sum(len(g.token_ids) for g in decode(base, beside, rows, settings, batch_size=batch))

    runs = {
        "base": alone(base, "think"),
        "thinking": alone(thinking, "bare"),
        **{name: hybrid(arms[name]) for name in chosen},
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, work in runs.items():
            start = time.perf_counter()
            tokens = work()
            if number:  # the first round warms up
                seconds[name].append((time.perf_counter() - start) / tokens)
    share = hybrid_frame(run).query("arm == 'hybrid' and split == 'hard-test'")["steered"].item()
    bound = [(1 + share) * b + t for b, t in zip(seconds["base"], seconds["thinking"], strict=True)]
    reached = [b / h for b, h in zip(bound, seconds["hybrid"], strict=True)]
    say = Console(width=160)
    low, high, middle = min(reached), max(reached), statistics.median(reached)
    say.print(
        f"hybrid: {middle:.2f} of its bound ({low:.2f} to {high:.2f} over {rounds} rounds), batch {batch}",
        highlight=False,
    )
    for name in chosen[1:]:
        cost = [a / b for a, b in zip(seconds[name], seconds["hybrid"], strict=True)]
        low, high, middle = min(cost), max(cost), statistics.median(cost)
        say.print(f"{name}: {middle:.2f} of the hybrid's time per token ({low:.2f} to {high:.2f})", highlight=False)


def main(
    sizes: Annotated[str, typer.Option(help=f"Which pairs, of {', '.join(SIZES)}.")] = "1M,30M",
    batch: Annotated[int, typer.Option(help="Rows that run together.")] = 16,
    new: Annotated[int, typer.Option(help="New tokens per row.")] = 64,
    rounds: Annotated[int, typer.Option(help="Rounds.")] = 7,
    shares: Annotated[
        str, typer.Option(help="Shares of tokens at which the models disagree, about.")
    ] = "0.02,0.1,0.25",
    threads: Annotated[int, typer.Option(help="Threads.")] = 2,
    run: Annotated[Path | None, typer.Option(help="Folder of a stored hybrid run: time its arms instead.")] = None,
) -> None:
    """Time hybrid decoding and print what it reaches of its bound."""
    torch.set_num_threads(threads)
    if run is not None:
        stored_cost(run, batch, rounds)
        return
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes.split(","):
            folder = str(save_model(size, Path(scratch)))
            base = load_model(folder)
            for share in map(float, shares.split(",")):
                asked = list(prompts(batch, 16, 48, SIZES[size]["vocab_size"]))
                cost = hybrid_cost(base, disagreeing(base, folder, share, asked, new), batch, new, rounds, share)
                (low, high), (cheap, dear) = cost.ratio_range, cost.free_range
                Console(width=160).print(
                    f"{size}, batch {batch}, {100 * cost.steered:.1f} % of tokens steered: base {cost.base:,.0f}, thinking "
                    f"{cost.thinking:,.0f}, hybrid {cost.hybrid:,.0f} tokens/s, {cost.ratio:.2f} of the bound ({low:.2f} to {high:.2f} "
                    f"over {rounds} rounds); one reading, no thinking model ({100 * cost.free_steered:.1f} % steered): "
                    f"{cost.free_cost:.2f} of the hybrid's cost per token ({cheap:.2f} to {dear:.2f})",
                    highlight=False,
                )


if __name__ == "__main__":
    typer.run(main)
