"""A whole sweep on the built-in base, stored and graded, against a loop that calls Hugging Face `generate` with a hook per configuration.

The sweep is `steer sweep run`'s own code: 3 layers x 8 doses x 2 vectors with a random direction beside every cell, rows graded and written
to a store. The loop does the same rows of some configurations, prompts one at a time or together, decodes and grades them, and stores
nothing. Both take turns; the ratio is of seconds per row within a round. `python -m benchmarks.sweep_loop`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from experiments.evaluation.evaluate import run_evaluation
from experiments.store.runs import Store
from experiments.sweeps.run import Planned, plan_sweep
from experiments.sweeps.spec import SweepSpec
from experiments.tasks.task import task_named
from steering.model.models import LoadedModel, load_model
from steering.model.prompts import encode_prompt
from steering.model.sites import Site
from steering.plan.plan import Plan
from steering.vector.vectors import Provenance, SteeringVector

DOSES = (-1.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
PLAN = "add $vector-$layer.safetensors ${dose}v on $span"


def spec(items: int, span: str, new: int, form: str) -> SweepSpec:
    return SweepSpec(
        name="bench", model="builtin:base", form=form, plan=PLAN,
        vary={"vector": ("one", "two"), "layer": (0, 1, 2), "dose": DOSES, "span": (span,)},
        splits={"development": {"standard-dev": items}}, generation={"max_new_tokens": new},
    )  # type: ignore[arg-type]  # fmt: skip


def save_vectors(folder: Path, width: int, norm: float) -> None:
    """Random vectors of the size of extracted ones: what they say does not matter to speed."""
    for seed, name in enumerate(("one", "two")):
        for layer in range(3):
            direction = torch.randn(width, generator=torch.Generator().manual_seed(10 * seed + layer))
            vector = SteeringVector(
                f"{name}-{layer}", Site(layer), direction / direction.norm() * norm, Provenance("random", "none")
            )
            vector.save(folder / f"{name}-{layer}.safetensors")


def loop(model: LoadedModel, planned: Planned, arms: list[int], batch: int) -> tuple[float, int]:
    """Seconds and rows of the loop over some arms."""
    task = task_named("find-start")
    ((split, n),) = planned.spec.splits.items()
    items = task.items(split, n)
    tokenizer, new = model.tokenizer, planned.spec.generation.max_new_tokens
    start = time.perf_counter()
    for index in arms:
        arm = planned.spec.arms[index]
        steps = Plan.from_dict(arm.plan, planned.vectors).interventions if arm.plan else ()
        handles = []
        for step in steps:
            assert isinstance(step.vector, SteeringVector) and step.dose is not None
            delta, everywhere = step.vector.direction * step.dose.amount, str(step.span) != "last_prompt"

            def hook(
                module: object,
                args: object,
                out: torch.Tensor,
                delta: torch.Tensor = delta,
                everywhere: bool = everywhere,
            ) -> torch.Tensor | None:
                if out.shape[1] > 1:  # the prompt's pass
                    out = out.clone()
                    out[:, -1] += delta
                    return out if not everywhere else None
                return out + delta if everywhere else None

            handles.append(model.layout.layers[step.sites[0].layer].register_forward_hook(hook))
        for first in range(0, len(items), batch):
            part = items[first : first + batch]
            ids = [encode_prompt(model, task.prompt(item, arm.form)) for item in part]
            width = max(map(len, ids))
            fed = torch.tensor([[tokenizer.pad_token_id] * (width - len(row)) + list(row) for row in ids])
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids])
            with torch.inference_mode():
                out = model.model.generate(input_ids=fed, attention_mask=mask, max_new_tokens=new, do_sample=False)
            for item, row in zip(part, out[:, width:].tolist(), strict=True):
                task.grade(
                    item, tokenizer.decode([t for t in row if t not in model.eos_ids and t != tokenizer.pad_token_id])
                )
        for handle in handles:
            handle.remove()
    return time.perf_counter() - start, len(arms) * len(items)


def main(
    items: Annotated[int, typer.Option(help="Problems.")] = 200,
    rounds: Annotated[int, typer.Option(help="Rounds.")] = 3,
    share: Annotated[
        int, typer.Option(help="The loop one at a time does every n-th arm; batched, twice as many.")
    ] = 32,
    threads: Annotated[int, typer.Option(help="Threads.")] = 2,
    form: Annotated[
        str, typer.Option(help="Prompt form: think gives texts of some 90 tokens, bare mostly of 3.")
    ] = "think",
    span: Annotated[str, typer.Option(help="Span of every cell: last_prompt or generated.")] = "generated",
    norm: Annotated[float, typer.Option(help="Norm of the vectors.")] = 5.0,
) -> None:
    """Time the sweep against the loop and print the ratios."""
    torch.set_num_threads(threads)
    model = load_model("builtin:base")
    ratios: dict[int, list[float]] = {1: [], 16: []}
    with tempfile.TemporaryDirectory() as scratch:
        save_vectors(Path(scratch), model.d_model, norm)
        (planned,) = plan_sweep(spec(items, span, 360, form), Path(scratch))
        arms = len(planned.spec.arms)
        for number in range(rounds):
            start = time.perf_counter()
            store = Store(Path(scratch) / f"runs-{number}")
            run_evaluation(planned.spec, store, planned.vectors, models={"builtin:base": model})
            ours = (time.perf_counter() - start) / (arms * items)
            for batch in ratios:
                seconds, rows = loop(model, planned, list(range(1, arms, share if batch == 1 else share // 2)), batch)
                ratios[batch].append(seconds / rows / ours)
        lines = "; ".join(
            f"{'one prompt at a time' if batch == 1 else f'{batch} prompts together'} {statistics.median(found):.1f} times as long "
            f"({min(found):.1f} to {max(found):.1f})"
            for batch, found in ratios.items()
        )
        Console(width=160).print(
            f"{arms} arms x {items} problems, {form} prompts, {span}: {1000 * ours:.2f} ms per row, stored and graded; the loop takes, "
            f"{lines}, over {rounds} rounds",
            highlight=False,
        )


if __name__ == "__main__":
    typer.run(main)
