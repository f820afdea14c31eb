"""`python -m benchmarks.gpu`: what steering costs on one accelerator, in one command and without a network.

1. Models are random, in the shapes of common ones, made on the device in bfloat16; speed does not depend on what they say.
2. Contenders take turns on the same rows in one process; a ratio is the median over rounds of neighbouring runs, with its range.
3. Every steered run shows its receipts: edits made are edits planned, and sizes are finite.
4. Texts are compared with those of a naive loop (whole prefix, no cache) on a small model in float32, where they must be the same.
5. It ends by its deadline: parts that it did not come to are named in the table. `--tiny` runs all of it on a CPU in a minute.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from steering.engine.generation import Generation, Row, generate
from steering.engine.sampling import GenerationSettings
from steering.model.models import LoadedModel
from steering.plan.plan import Plan

from .gpu_models import SHAPES, adding, hooked, model_of, naive
from .workloads import prompts

PROMPT = 48
"""Tokens of every prompt."""


@dataclass(frozen=True)
class Work:
    """How much is timed."""

    shapes: tuple[str, ...] = ("1.5B", "8B")
    batches: tuple[int, ...] = (1, 32, 256)
    new_tokens: int = 64
    rounds: int = 3
    configurations: int = 64
    sweep_prompts: int = 8
    sweep_tokens: int = 32
    loop_share: int = 8
    """The loop over configurations does every k-th one."""
    minutes: float = 8.0


TINY = Work(("tiny",), (1, 4), 6, 2, 4, 2, 4, 2, 8.0)


@dataclass
class Report:
    """Lines as they are measured, and what was not come to."""

    device: str
    lines: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        heads = ("model", "rows", "what", "tokens/s", "ratio to generate + hook (range)", "largest memory, GiB")
        lines = [f"| {' | '.join(heads)} |", "|---|--:|---|--:|---|--:|"]
        for one in self.lines:
            ratio = f"{one['ratio']:.2f} ({one['low']:.2f} to {one['high']:.2f})" if one.get("ratio") else ""
            memory = "" if one["memory"] is None else f"{one['memory']:.1f}"
            lines.append(
                f"| {one['model']} | {one['rows']} | {one['what']} | {one['speed']:,.0f} | {ratio} | {memory} |"
            )
        said = [f"* {text}" for text in (*self.checks, *(f"Not come to in time: {name}." for name in self.left_out))]
        return "\n".join([f"Device: {self.device}; torch {torch.__version__}.", "", *lines, "", *said]) + "\n"


def shown(generations: Sequence[Generation]) -> None:
    """Receipts of steered rows. Raises RuntimeError for one that is not as planned."""
    for number, one in enumerate(generations):
        if one.receipt.fired != one.receipt.planned or not one.receipt.planned:
            raise RuntimeError(f"row {number}: {one.receipt.fired} of {one.receipt.planned} edits were made")
        if one.nonfinite is not None:
            raise RuntimeError(f"row {number}: {one.nonfinite}")


def timed(action: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds of one call, the device's work included, and what it gave."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    found = action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun, found


def contest(
    report: Report, shape: str, rows: int, tokens: int, ways: dict[str, Callable[[], Any]], against: dict[str, str], rounds: int,
    device: torch.device, steered: frozenset[str] = frozenset(),
) -> None:  # fmt: skip
    """Time ways that take turns; `against` names whose time a way's is divided by, in the same round."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    memory: dict[str, float | None] = {}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            seconds, found = timed(way, device)
            if name in steered:
                shown(found)
            memory[name] = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None
            if turn:  # the first warms up
                times[name].append(seconds)
    for name in ways:
        line: dict[str, Any] = {
            "model": shape, "rows": rows, "what": name, "speed": tokens / statistics.median(times[name]), "memory": memory[name],
        }  # fmt: skip
        if name in against:
            ratios = [other / own for own, other in zip(times[name], times[against[name]], strict=True)]
            line |= {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
        report.lines.append(line)


def decoding(report: Report, loaded: LoadedModel, shape: str, batch: int, work: Work) -> None:
    """Unsteered, one plan for all, a plan per row, steps as one graph and step by step, beside `generate` and a hook."""
    vocabulary, layer = SHAPES[shape]["vocab_size"], SHAPES[shape]["num_hidden_layers"] // 2
    asked = prompts(batch, PROMPT, PROMPT, vocabulary)
    settings, one = GenerationSettings(work.new_tokens), adding(loaded, 0, layer)
    own = [adding(loaded, number, layer) for number in range(batch)]

    def engine(plans: Sequence[Plan], compiled: bool | None = None) -> list[Generation]:
        rows = [Row(prompt, plan) for prompt, plan in zip(asked, plans, strict=True)]
        return generate(loaded, rows, settings, batch_size=batch, detail="tokens", compiled=compiled)

    plain, steered = "`generate`", "`generate` + hook"
    ways: dict[str, Callable[[], Any]] = {
        plain: lambda: hooked(loaded, asked, work.new_tokens, None, layer),
        "engine, unsteered": lambda: engine([Plan()] * batch),
        steered: lambda: hooked(loaded, asked, work.new_tokens, 0, layer),
        "engine, one plan": lambda: engine([one] * batch),
        "engine, a plan per row": lambda: engine(own),
    }
    against = {"engine, unsteered": plain, "engine, one plan": steered, "engine, a plan per row": steered}
    if loaded.device.type == "cuda":
        ways["engine, one plan, step by step"] = lambda: engine([one] * batch, False)
        against["engine, one plan, step by step"] = steered
    made = frozenset(name for name in ways if name.startswith("engine") and "unsteered" not in name)
    contest(report, shape, batch, batch * work.new_tokens, ways, against, work.rounds, loaded.device, made)


def sweeping(report: Report, loaded: LoadedModel, shape: str, work: Work) -> None:
    """All configurations in one queue, beside a loop over configurations with prompts batched (every k-th, scaled up)."""
    vocabulary, layers = SHAPES[shape]["vocab_size"], SHAPES[shape]["num_hidden_layers"]
    asked = prompts(work.sweep_prompts, PROMPT, PROMPT, vocabulary)
    cells = [(number, number % layers) for number in range(work.configurations)]
    part = cells[:: work.loop_share]
    rows = [Row(prompt, adding(loaded, seed, layer)) for seed, layer in cells for prompt in asked]

    def queue() -> list[Generation]:
        return generate(
            loaded, rows, GenerationSettings(work.sweep_tokens), batch_size=min(len(rows), 256), detail="tokens"
        )

    def loop() -> None:
        for seed, layer in part:
            hooked(loaded, asked, work.sweep_tokens, seed, layer)

    tokens, times = len(rows) * work.sweep_tokens, []
    for turn in range(work.rounds + 1):
        whole, found = timed(queue, loaded.device)
        shown(found)
        some, _ = timed(loop, loaded.device)
        if turn:
            times.append((whole, some * len(cells) / len(part)))
    ratios = [other / own for own, other in times]
    facts = {"model": shape, "rows": len(rows), "memory": None}
    report.lines.append(
        facts
        | {"what": f"loop over {len(cells)} configurations", "speed": tokens / statistics.median(t for _, t in times)}
    )
    report.lines.append(
        facts | {
            "what": "engine, one queue", "speed": tokens / statistics.median(t for t, _ in times), "ratio": statistics.median(ratios),
            "low": min(ratios), "high": max(ratios),
        }
    )  # fmt: skip


def oracle(report: Report, device: torch.device) -> None:
    """Tokens of the engine against the naive loop in float32. Raises RuntimeError where they differ."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        loaded = model_of("tiny", device, torch.float32)
        asked, compared = prompts(4, 5, 12, SHAPES["tiny"]["vocab_size"]), 0
        for seed, layer in ((None, 1), (0, 0), (1, 2)):
            plan = Plan() if seed is None else adding(loaded, seed, layer)
            want = naive(loaded, asked, 12, seed, layer)
            for compiled in (False, None):
                found = generate(
                    loaded, [Row(p, plan) for p in asked], GenerationSettings(12), detail="tokens", compiled=compiled
                )
                if [list(one.token_ids) for one in found] != want:
                    raise RuntimeError(
                        f"texts differ from the naive loop's: vector {seed} at layer {layer}, compiled {compiled}"
                    )
                compared += len(found)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    report.checks.append(
        f"{compared} texts are those of the naive loop, token for token (float32, small model, steered and not)."
    )


def run(work: Work, device: torch.device, dtype: torch.dtype, say: Callable[[str], None] = print) -> Report:
    """All parts that the deadline leaves room for. Raises RuntimeError where a receipt or the oracle says no."""
    begun = time.monotonic()
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    report = Report(f"{name}, {str(dtype).removeprefix('torch.')}")
    oracle(report, device)
    longest = 0.0
    for shape in work.shapes:
        loaded = None
        parts: list[tuple[str, Callable[[LoadedModel], None]]] = [
            (f"{shape}, {batch} rows", lambda model, b=batch, s=shape: decoding(report, model, s, b, work)) for batch in work.batches  # type: ignore[misc]
        ]  # fmt: skip
        parts.append((f"{shape}, sweep", lambda model, s=shape: sweeping(report, model, s, work)))  # type: ignore[misc]
        for title, part in parts:
            left = 60 * work.minutes - (time.monotonic() - begun)
            if left < 1.5 * longest + 5:
                report.left_out.append(title)
                continue
            start = time.monotonic()
            try:
                loaded = loaded or model_of(shape, device, dtype)
                part(loaded)
            except torch.OutOfMemoryError:
                report.left_out.append(f"{title} (out of memory)")
            longest = max(longest, time.monotonic() - start)
            say(f"{title}: {time.monotonic() - start:.0f} s")
        loaded = None
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    report.checks.append("Every steered row made the edits that its plan covers, with finite sizes.")
    return report


def main(
    out: Annotated[Path | None, typer.Option(help="Markdown file of the table; JSON beside it.")] = None,
    minutes: Annotated[float, typer.Option(help="Deadline.")] = 8.0,
    tiny: Annotated[bool, typer.Option("--tiny", help="Small sizes in float32 on the CPU: that it runs.")] = False,
) -> None:
    """Time the engine on this machine's accelerator."""
    if not tiny and not torch.cuda.is_available():
        print("No accelerator is here; --tiny runs every part on the CPU.", file=sys.stderr)
        raise typer.Exit(1)
    device = torch.device("cpu" if tiny else "cuda")
    work = TINY if tiny else Work(minutes=minutes)
    report = run(work, device, torch.float32 if tiny else torch.bfloat16, lambda text: print(text, file=sys.stderr))
    print(report.markdown())
    if out is not None:
        out.write_text(report.markdown(), encoding="utf-8")
        out.with_suffix(".json").write_text(json.dumps(vars(report), indent=1), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
