"""`python -m benchmarks.reading`: texts that are there already, read for a divergence or for a gradient, beside a loop over texts.

1. Divergence: every text with a plan and without (`forced_divergence`), against two plain passes per text with a hook.
2. Gradient of a trained vector: the batches of `extraction.policy`, against one pass with a gradient per text.

Both sides take turns on the same texts, and their numbers are compared; ratios are medians over rounds with their range.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from steering.engine.forced import ForcedText, forced_divergence
from steering.extraction.optimised import still
from steering.extraction.policy import Rollout, logprobs, packed
from steering.model.models import LoadedModel, load_model
from steering.model.sites import Site
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import Provenance, SteeringVector

from .workloads import SIZES, save_model

SPAN = "generated"


def texts_of(vocabulary: int, count: int, seed: int = 0) -> list[Rollout]:
    """Random texts whose lengths vary as those of rollouts do: prompts of 24 to 48 tokens, answers of 16 to 160."""
    rng = random.Random(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, vocabulary) for _ in range(rng.randint(low, high)))

    return [Rollout(ids(24, 48), ids(16, 160)) for _ in range(count)]


def hooked_logprobs(model: LoadedModel, text: Rollout, vector: Tensor | None, site: Site) -> Tensor:
    """The whole distribution at each written token, `[tokens, vocabulary]`, by one plain pass over one text."""
    ids = torch.tensor([[*text.prompt_ids, *text.token_ids[:-1]]])
    first = len(text.prompt_ids)

    def add(module: object, args: object, output: Tensor) -> Tensor:
        assert vector is not None
        return torch.cat([output[:, :first], output[:, first:] + vector], 1)

    handle = None if vector is None else model.layout.layers[site.layer].register_forward_hook(add)
    try:
        logits = model.model(input_ids=ids, use_cache=False).logits[0, first - 1 :]
    finally:
        if handle is not None:
            handle.remove()
    return logits.log_softmax(-1)


def divergence_by_loop(model: LoadedModel, texts: Sequence[Rollout], vector: Tensor, site: Site) -> list[Tensor]:
    """KL(steered || unsteered) per written token of each text."""
    found = []
    with torch.inference_mode():
        for text in texts:
            one, two = (hooked_logprobs(model, text, v, site) for v in (vector, None))
            found.append((one.exp() * (one - two)).sum(-1))
    return found


def gradient_by_loop(model: LoadedModel, texts: Sequence[Rollout], vector: Tensor, site: Site) -> Tensor:
    """Of the summed log-probability of all written tokens, with respect to the vector."""
    total = torch.zeros_like(vector)
    with still(model):
        for text in texts:
            own = vector.clone().requires_grad_()
            read = hooked_logprobs(model, text, own, site).gather(-1, torch.tensor(text.token_ids)[:, None]).sum()
            total += torch.autograd.grad(read, own)[0]
    return total


def gradient_in_batches(model: LoadedModel, texts: Sequence[Rollout], vector: Tensor, site: Site) -> Tensor:
    """The same by the batches that reinforced vectors are trained on."""
    total = torch.zeros_like(vector)
    with still(model):
        for batch in packed(model, texts, Span.parse(SPAN)):
            own = vector.clone().requires_grad_()
            total += torch.autograd.grad(logprobs(model, batch, {site: own}).sum(), own)[0]
    return total


def contest(
    ours: Callable[[], Tensor], theirs: Callable[[], Tensor], rounds: int
) -> tuple[float, float, float, float, float]:
    """Seconds of ours, the loop's time over it (median, lowest, highest), and the largest difference relative to the largest number."""
    one, two = ours(), theirs()
    differ = float((one - two).abs().max() / two.abs().max())
    seconds, ratios = [], []
    for _ in range(rounds):
        taken = []
        for way in (ours, theirs):
            start = time.perf_counter()
            way()
            taken.append(time.perf_counter() - start)
        seconds.append(taken[0])
        ratios.append(taken[1] / taken[0])
    return statistics.median(seconds), statistics.median(ratios), min(ratios), max(ratios), differ


def main(
    sizes: Annotated[str, typer.Option(help=f"Which models, of {', '.join(SIZES)}.")] = "1M,SmolLM2",
    count: Annotated[int, typer.Option(help="Texts of the smallest model; larger ones read a quarter.")] = 96,
    rounds: Annotated[int, typer.Option(help="Rounds.")] = 3,
    threads: Annotated[int, typer.Option(help="Threads.")] = 2,
) -> None:
    """Print one line per model and kind of reading."""
    torch.set_num_threads(threads)
    print(
        "| model | read for | texts | tokens | tokens/s | a loop over texts, ours = 1 | largest difference |\n|---|---|--:|--:|--:|---|--:|"
    )
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes.split(","):
            model = load_model(str(save_model(size, Path(scratch))))
            texts = texts_of(model.model.config.vocab_size, count if size == "1M" else count // 4)
            site = Site(model.n_layers // 2)
            drawn = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
            vector = 2.0 * drawn / drawn.norm()
            held = SteeringVector("v", site, vector, Provenance("random", "none"))
            plan = Plan((Intervention("add", held, Span.parse(SPAN), Dose(1.0, "vector")),))
            forced = [ForcedText(text.prompt_ids, text.token_ids, plan) for text in texts]

            def divergence(forced: list[ForcedText] = forced, model: LoadedModel = model) -> Tensor:
                return torch.cat([torch.tensor(one.divergence) for one in forced_divergence(model, forced)])

            tokens = sum(len(text.token_ids) for text in texts)
            for name, ours, theirs in (
                ("a divergence", divergence, lambda: torch.cat(divergence_by_loop(model, texts, vector, site))),  # noqa: B023
                (
                    "a gradient",
                    lambda: gradient_in_batches(model, texts, vector, site),  # noqa: B023
                    lambda: gradient_by_loop(model, texts, vector, site),  # noqa: B023
                ),
            ):
                seconds, ratio, low, high, differ = contest(ours, theirs, rounds)
                print(
                    f"| {size} | {name} | {len(texts)} | {tokens:,} | {tokens / seconds:,.0f} | {ratio:.2f} ({low:.2f} to {high:.2f}) | "
                    f"{differ:.0e} |",
                    flush=True,
                )


if __name__ == "__main__":
    typer.run(main)
