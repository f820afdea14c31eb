"""`python -m benchmarks.resampling`: continuations of every sentence of a trace, as rows of the engine and by one `generate` each.

1. Both draw from the same prefixes at temperature 1 until a text ends or has as many tokens as asked for. The engine takes all prefixes
   and samples at once (one reading per prefix); the loop calls `model.generate` once per continuation, on some of the samples per prefix.
2. They take turns, whole rounds each; costs are seconds per continuation, and what is said is their ratio with its range over rounds.
"""

from __future__ import annotations

import statistics
import time
from typing import Annotated

import torch
import typer

from experiments.studies.elicitation.steps import steps_of
from experiments.tasks.task import asked_ids, resolve_task
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.model.models import LoadedModel, load_model


def prefixes(model: LoadedModel, traces: int, tokens: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(prompt, beginning of the response) before every sentence of the greedy traces of hard problems, asked to think first."""
    task, found = resolve_task("find-start"), []
    for item in task.items("hard-test", traces):
        prompt = tuple(asked_ids(task, model, item, "think"))
        (written,) = generate(model, [Row(prompt)], GenerationSettings(tokens), detail="tokens")
        ids = tuple(token for token in written.token_ids if token not in model.eos_ids)
        found += [(prompt, ids[: step.start]) for step in steps_of(model, ids)[:-1]]
    return found


def by_engine(
    model: LoadedModel, begun: list[tuple[tuple[int, ...], tuple[int, ...]]], samples: int, tokens: int
) -> int:
    """Continuations drawn."""
    rows = [
        Row(prompt, seed=samples * place + n, begun=ids) for place, (prompt, ids) in enumerate(begun) for n in range(samples)
    ]  # fmt: skip
    return len(generate(model, rows, GenerationSettings(tokens, temperature=1.0), batch_size=256, detail="tokens"))


@torch.no_grad()
def by_loop(model: LoadedModel, begun: list[tuple[tuple[int, ...], tuple[int, ...]]], samples: int, tokens: int) -> int:
    """Continuations drawn, each by a call of its own."""
    for prompt, ids in begun:
        for _ in range(samples):
            asked = torch.tensor([[*prompt, *ids]])
            model.model.generate(
                asked, attention_mask=torch.ones_like(asked), do_sample=True, temperature=1.0, top_k=0,
                max_new_tokens=tokens - len(ids), eos_token_id=sorted(model.eos_ids), pad_token_id=min(model.eos_ids),
            )  # fmt: skip
    return samples * len(begun)


def main(
    name: Annotated[str, typer.Argument(help="Model.")] = "builtin:base",
    traces: Annotated[int, typer.Option(help="Traces whose sentences are resampled.")] = 2,
    samples: Annotated[int, typer.Option(help="Continuations per sentence.")] = 32,
    loop: Annotated[int, typer.Option(help="Continuations per sentence by the loop.")] = 2,
    tokens: Annotated[int, typer.Option(help="Tokens of a text, at most.")] = 360,
    rounds: Annotated[int, typer.Option(help="Turns of each.")] = 3,
) -> None:
    """Print seconds per continuation of both, and their ratio."""
    model = load_model(name)
    begun = prefixes(model, traces, tokens)
    taken: dict[str, list[float]] = {"engine": [], "loop": []}
    for _ in range(rounds):
        for who, draw, count in (("engine", by_engine, samples), ("loop", by_loop, loop)):
            start = time.perf_counter()
            made = draw(model, begun, count, tokens)
            taken[who].append((time.perf_counter() - start) / made)
    ratios = [engine / alone for engine, alone in zip(taken["engine"], taken["loop"], strict=True)]
    print(
        f"{len(begun)} sentences of {traces} traces of {name}, {samples} continuations each ({loop} by the loop), {rounds} rounds"
    )
    for who, seconds in taken.items():
        print(f"{who}: {1e3 * statistics.median(seconds):.1f} ms per continuation")
    print(f"engine / loop: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    typer.run(main)
