"""`python -m benchmarks`: time the engine against its peers and write docs/performance.md."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from steering.model.models import load_model

from .capture import capture_cost
from .contest import Contender, Entry, contest
from .machine import Machine, measure, step_bound
from .overhead import overhead
from .report import Section, write_report
from .workloads import SIZES, Workload, end_ids, prompts, save_model, sweep_configurations

PEER_REQUIREMENTS = ("torch==2.13.0", "transformers==4.57.6", "steering-vectors==0.12.2", "repeng==0.4.0")
PEER_ENVIRONMENT = Path(".bench/peers")
BATCHES = (1, 8, 32)
ROOT = Path(__file__).parent.parent
BOUNDS = (
    "What bounds the sweep: the loops pay the fixed cost of a step (dispatch, and reading the weights) once per prompt or per "
    "configuration, the engine once for all rows. What is left to the engine is arithmetic (matrix products, attention over each row's own "
    "columns), so its tokens per second level off once the batch fills the machine, and with them the ratio to the loop one at a time, "
    "whose rate does not depend on how lengths vary. The batched loop waits for the slowest row of each configuration, so the ratio "
    "to it rises with varied lengths."
)
say = Console()


def peer_python() -> str:
    """Python of the environment for peers that need an older transformers; made on first use."""
    python, made = PEER_ENVIRONMENT / "bin" / "python", PEER_ENVIRONMENT / "requirements"
    if not made.exists() or made.read_text() != " ".join(PEER_REQUIREMENTS):
        say.print("making an environment for peers that pin an older transformers ...")
        venv.create(PEER_ENVIRONMENT, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEER_REQUIREMENTS], check=True)
        made.write_text(" ".join(PEER_REQUIREMENTS))
    return str(python)


@dataclass(frozen=True)
class Scale:
    """How much work is timed at one size, so that the whole report takes about half an hour on two slow cores."""

    decode_tokens: int
    decode_rounds: int
    overhead_tokens: int
    overhead_runs: int
    peer_tokens: int
    peer_rounds: int
    sweep_rounds: int
    end_share: float
    """Share of the vocabulary that ends a row, chosen so that rows end all over their budget: small models repeat themselves more."""
    loop_share: tuple[int, int]
    """The loops over configurations do every k-th one: prompts batched, one prompt at a time."""


SCALES = {
    "1M": Scale(96, 21, 160, 8, 32, 15, 3, 0.08, (1, 2)),
    "30M": Scale(48, 9, 64, 5, 24, 9, 2, 0.03, (4, 8)),
    "150M": Scale(24, 5, 24, 3, 12, 5, 1, 0.03, (8, 24)),
}


def decoding(size: str, folder: Path, machine: Machine, threads: int) -> list[Section]:
    """Unsteered decoding against Hugging Face, and what steering costs, at batch 1, 8 and 32."""
    vocabulary, scale, loaded = SIZES[size]["vocab_size"], SCALES[size], load_model(str(folder))
    parameters = sum(p.numel() for p in loaded.model.parameters())
    plain, cost = Section(f"Unsteered decoding, {size}"), Section(f"Cost of steering one layer, {size}")
    with Contender("engine", folder, threads) as ours, Contender("huggingface", folder, threads) as theirs:
        for batch in BATCHES:
            bare = Workload(prompts(batch, 16, 48, vocabulary), (), scale.decode_tokens, batch)
            results = contest([Entry(ours, bare), Entry(theirs, bare)], scale.decode_rounds)
            share = step_bound(parameters, batch, machine) * results[0].tokens_per_second / batch
            plain.add(f"batch {batch}", results, note=f"{share:.0%} of the machine's limit")
    for batch in BATCHES:
        found = overhead(loaded, batch, scale.overhead_tokens, scale.overhead_runs)
        cost.remark(
            f"* batch {batch}: a steered step takes {found.ratio:.3f} times an unsteered one ({found.ratio_range[0]:.3f} to "
            f"{found.ratio_range[1]:.3f} over {scale.overhead_runs} runs; {found.milliseconds:.2f} ms, {found.steps} steps)"
        )
    return [plain, cost]


def peers(size: str, folder: Path, threads: int) -> Section:
    """The same steered work by each peer: one configuration; spans as each can do them."""
    vocabulary, layers = SIZES[size]["vocab_size"], SIZES[size]["num_hidden_layers"]
    section = Section(f"Steered decoding against peers, {size}")
    for span, names in (
        ("generated", ("huggingface", "bridge", "nnsight_library")),
        ("all", ("steering_vectors_library", "repeng_library")),
    ):
        python = sys.executable if span == "generated" else peer_python()
        with ExitStack() as stack:
            contenders = [stack.enter_context(Contender("engine", folder, threads))]
            for name in names:
                try:
                    contenders.append(stack.enter_context(Contender(name, folder, threads, python)))
                except RuntimeError as error:
                    section.problem(name, str(error))
            for batch in BATCHES:
                asked, chosen = prompts(batch, 16, 48, vocabulary), sweep_configurations(layers, 1, 1)
                workload = Workload(asked, chosen, SCALES[size].peer_tokens, batch, span)
                section.add(
                    f"{span}, batch {batch}",
                    contest([Entry(c, workload) for c in contenders], SCALES[size].peer_rounds),
                )
    return section


def sweeps(size: str, folder: Path, threads: int) -> Section:
    """Many configurations over few prompts: the engine in one queue, a loop with prompts batched, and a loop one at a time."""
    vocabulary, layers = SIZES[size]["vocab_size"], SIZES[size]["num_hidden_layers"]
    section = Section(f"Sweeps, {size}")
    asked = prompts(6, 120, 192, vocabulary)
    few = Workload(asked, sweep_configurations(layers, 3, 8), 32, 192)
    ends = end_ids(vocabulary, SCALES[size].end_share)
    many = Workload(asked, sweep_configurations(layers, 8, 8), 64, 384, end_ids=ends)
    with Contender("engine", folder, threads) as ours, Contender("huggingface", folder, threads) as theirs:
        for label, workload in (
            ("24 configurations x 6 prompts x 32 tokens", few),
            ("64 configurations x 6 prompts, lengths vary up to 64", many),
        ):
            loops = []
            for batch, share, name in (
                (6, SCALES[size].loop_share[0], "loop over configurations, prompts batched"),
                (1, SCALES[size].loop_share[1], "loop one at a time"),
            ):
                picked = tuple(range(0, len(workload.configurations), share))
                part = replace(workload, configurations=tuple(workload.configurations[i] for i in picked), batch=batch)
                rows = tuple(i * len(asked) + j for i in picked for j in range(len(asked)))
                loops.append(Entry(theirs, part, name, rows))
            section.add(label, contest([Entry(ours, workload), *loops], SCALES[size].sweep_rounds, warm=size == "1M"))
    section.remark(BOUNDS)
    return section


def captured(size: str, folder: Path) -> Section:
    """What reading one site costs."""
    cost, section = capture_cost(load_model(str(folder))), Section(f"Capture of one site, {size}")
    section.remark(
        f"* {cost.ratio:.3f} times the forward pass up to the layer ({cost.ratio_range[0]:.3f} to {cost.ratio_range[1]:.3f}); "
        f"{cost.tokens:,} tokens to disk at {cost.tokens_per_second:,.0f} tokens/s, the process grew by {cost.growth_mib:.0f} MiB"
    )
    return section


def main(
    sizes: Annotated[str, typer.Option(help="Which models, of 1M, 30M, 150M.")] = "1M,30M,150M",
    threads: Annotated[int, typer.Option(help="Threads per contender.")] = 2,
    only: Annotated[
        str, typer.Option(help="Parts to run: decoding, peers, sweeps, capture.")
    ] = "decoding,peers,sweeps,capture",
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = ROOT / "docs" / "performance.md",
) -> None:
    """Run the contests and write the report."""
    torch.set_num_threads(threads)
    machine = measure(threads)
    say.print(f"{machine.processor}: {machine.gflops:.0f} GFLOP/s, {machine.gigabytes_per_second:.1f} GB/s")
    sections: list[Section] = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes.split(","):
            folder, found = save_model(size, Path(scratch)), []
            if "decoding" in only:
                found += decoding(size, folder, machine, threads)
            if "sweeps" in only:
                found.append(sweeps(size, folder, threads))
            if "peers" in only:
                found.append(peers(size, folder, threads))
            if "capture" in only:
                found.append(captured(size, folder))
            for section in found:
                print(section.markdown(), flush=True)
            sections += found
    write_report(out, machine, sections)
    say.print(f"written to {out}")


if __name__ == "__main__":
    typer.run(main)
