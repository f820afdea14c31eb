"""`python -m benchmarks.parts`: where the time of a decoding step goes, beside what this machine's products can do at those shapes.

1. Modules are timed by hooks while the engine writes; a module's share is its own time, less that of the modules inside it. Hooks cost
   some microseconds each: a step is shown without them, too.
2. Beside it the model's products alone, one after another over the model's own weights (so that they come from memory as in a step): by the
   library's `linear`, by columns, and by packed weights. `best` takes the fastest way for each shape.
3. The bound is the larger of two numbers for each product: its operations at the rate of a 1024-cubed product, and one read of its weights
   at the rate of a copy. The limit takes the rate of the library's fastest 1024-cubed product instead, and one read of the keys and values
   on top. All are measured in the same run.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

from steering.engine.generation import Row, stream
from steering.engine.sampling import GenerationSettings
from steering.model.models import LoadedModel, load_model
from steering.model.packed import Packed, can_pack, takes
from steering.model.products import columns

from .machine import Machine, measure
from .workloads import SIZES, prompts, save_model

TOKENS = {"1M": 60, "30M": 40, "150M": 24, "SmolLM2": 24, "360M": 16}
SHORTEST, LONGEST = 16, 48
"""Tokens of the prompts."""
WARM = 4
"""Steps that are not timed."""


@dataclass(frozen=True)
class Step:
    """Milliseconds of a step, medians."""

    whole: float
    """Without hooks."""
    parts: dict[str, float]
    """By kind of module; `outside` is what the engine does around the model."""


def kind(model: LoadedModel, name: str, module: nn.Module) -> str:
    """What a module's own time is called."""
    if module is model.model.get_output_embeddings():
        return "head"
    if isinstance(module, nn.Linear):
        return "products of the layers"
    if "norm" in name.rsplit(".", 1)[-1]:
        return "norms"
    if name.endswith("self_attn"):
        return "attention, positions, cache"
    return "rest of the model"


class Clock:
    """Own time of modules by kind: begun and ended by hooks."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._open: list[list[float]] = []

    def begin(self) -> None:
        self._open.append([time.perf_counter(), 0.0])

    def end(self, name: str) -> None:
        start, inside = self._open.pop()
        taken = time.perf_counter() - start
        self.spent[name] += taken - inside
        if self._open:
            self._open[-1][1] += taken

    @contextmanager
    def watching(self, model: LoadedModel) -> Iterator[None]:
        """Hooks on every module that takes part in a step."""
        handles = []
        for name, module in model.model.named_modules():
            label = kind(model, name, module)
            handles.append(module.register_forward_pre_hook(lambda *_: self.begin()))
            handles.append(module.register_forward_hook(lambda *_, label=label: self.end(label)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def step(model: LoadedModel, rows: int, tokens: int) -> Step:
    """Time the engine's unsteered steps with hooks and without."""
    endless = replace(model, extra=dict(model.extra))
    endless.__dict__["eos_ids"] = frozenset()
    asked = [Row(prompt) for prompt in prompts(rows, SHORTEST, LONGEST, model.model.config.vocab_size)]

    def times(each: Callable[[float], None]) -> None:
        events = stream(endless, asked, GenerationSettings(tokens), batch_size=rows, detail="tokens")
        for number in range(tokens - 1):
            start = time.perf_counter()
            next(events)
            if number >= WARM:
                each(time.perf_counter() - start)
        events.close()  # type: ignore[attr-defined]

    bare: list[float] = []
    times(bare.append)
    clock = Clock()
    spent: list[dict[str, float]] = []

    def note(taken: float) -> None:
        found = {name: seconds - before.get(name, 0.0) for name, seconds in clock.spent.items()}
        spent.append({**found, "outside": taken - sum(found.values())})

    before: dict[str, float] = {}
    with clock.watching(endless):
        events = stream(endless, asked, GenerationSettings(tokens), batch_size=rows, detail="tokens")
        for number in range(tokens - 1):
            before = dict(clock.spent)
            start = time.perf_counter()
            next(events)
            if number >= WARM:
                note(time.perf_counter() - start)
        events.close()  # type: ignore[attr-defined]
    names = spent[0]
    return Step(
        1e3 * statistics.median(bare), {name: 1e3 * statistics.median(one[name] for one in spent) for name in names}
    )


@dataclass(frozen=True)
class Products:
    """Milliseconds of all products of a step, by the way they are done."""

    ways: dict[str, float]
    best: float
    """The fastest way for each shape."""
    bound: float
    """The larger of operations and one read, summed over products."""
    limit: float
    """The same by the fastest product, and one read of the cache."""


@torch.inference_mode()
def products(model: LoadedModel, rows: int, machine: Machine, columns_read: float, rounds: int = 7) -> Products:
    """Time the model's products alone, in the order of a step; `columns_read` of the cache are read by one."""
    modules = [m for m in model.model.modules() if isinstance(m, nn.Linear)]
    inputs = {width: torch.randn(rows, width) for width in {m.in_features for m in modules}}
    ways: dict[str, list[Callable[[Tensor], Any]]] = {
        "linear": [lambda x, m=m: torch.nn.functional.linear(x, m.weight, m.bias) for m in modules],  # type: ignore[misc]
        "by columns": [lambda x, m=m: columns(m.weight, m.bias, x).t() for m in modules],  # type: ignore[misc]
    }
    if can_pack() and takes(rows):
        known: list[Packed] = []
        ways["packed"] = [Packed([m._parameters], known) for m in modules]
    spent: dict[str, list[dict[tuple[int, int], float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, calls in ways.items():
            shapes: dict[tuple[int, int], float] = defaultdict(float)
            for module, call in zip(modules, calls, strict=True):
                x = inputs[module.in_features]
                start = time.perf_counter()
                call(x)
                shapes[module.out_features, module.in_features] += time.perf_counter() - start
            if number:
                spent[name].append(shapes)
    middle = {
        name: {shape: statistics.median(one[shape] for one in found) for shape in found[0]}
        for name, found in spent.items()
    }
    reading = machine.gigabytes_per_second * 1e9 / 2

    def bound(rate: float) -> float:
        sizes = [m.weight.numel() for m in modules]
        return sum(max(2 * size * rows / (rate * 1e9), size * 4 / reading) for size in sizes)

    config = model.model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    held = rows * columns_read * 2 * config.num_hidden_layers * config.num_key_value_heads * width * 4
    return Products(
        {name: 1e3 * sum(found.values()) for name, found in middle.items()},
        1e3 * sum(min(found[shape] for found in middle.values()) for shape in next(iter(middle.values()))),
        1e3 * bound(machine.gflops),
        1e3 * (bound(max(machine.gflops, machine.blocked)) + held / reading),
    )


def main(
    sizes: Annotated[str, typer.Option(help=f"Which models, of {', '.join(SIZES)}.")] = "SmolLM2,360M",
    threads: Annotated[str, typer.Option(help="Numbers of threads.")] = "1,2",
    rows: Annotated[str, typer.Option(help="Numbers of rows.")] = "1,8,32,64",
) -> None:
    """Print a table of a step's parts and one of its products."""
    shares = ["head", "products of the layers", "attention, positions, cache", "norms", "rest of the model", "outside"]
    parts = [
        f"| model | threads | rows | step, ms | {' | '.join(shares)} | with hooks |",
        "|---|--:|--:|--:|" + "--:|" * (len(shares) + 1),
    ]
    limits = [
        "| model | threads | rows | linear | by columns | packed | best | bound | step / best | bound / step | limit | limit / step |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes.split(","):
            folder = str(save_model(size, Path(scratch)))
            for count in map(int, threads.split(",")):
                machine = measure(count)
                print(
                    f"{size}, {count} threads: {machine.gflops:.0f} GFLOP/s, blocked {machine.blocked:.0f}, "
                    f"{machine.gigabytes_per_second / 2:.1f} GB/s read",
                    flush=True,
                )
                model = load_model(folder)  # anew: what was timed for other threads is not taken over
                for batch in map(int, rows.split(",")):
                    took = step(model, batch, TOKENS[size])
                    alone = products(model, batch, machine, LONGEST + (WARM + TOKENS[size]) / 2)
                    whole = sum(took.parts.values())
                    cells = " | ".join(f"{took.parts.get(name, 0.0) / whole:.0%}" for name in shares)
                    parts.append(f"| {size} | {count} | {batch} | {took.whole:.1f} | {cells} | {whole:.1f} |")
                    ways = " | ".join(
                        f"{alone.ways[n]:.1f}" if n in alone.ways else "" for n in ("linear", "by columns", "packed")
                    )
                    limits.append(
                        f"| {size} | {count} | {batch} | {ways} | {alone.best:.1f} | {alone.bound:.1f} | {took.whole / alone.best:.2f} | "
                        f"{alone.bound / took.whole:.2f} | {alone.limit:.1f} | {alone.limit / took.whole:.2f} |"
                    )
                    print(parts[-1] + "\n" + limits[-1], flush=True)
    print("\n".join(["", *parts, "", *limits]))


if __name__ == "__main__":
    typer.run(main)
