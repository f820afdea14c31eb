"""The benchmark report as Markdown."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .contest import Result
from .machine import Machine

HEADER = """# Performance

Measured by `python -m benchmarks` (after `make test` has made the environment). Contenders run in their own processes and take turns on
the same workload, so that a drift of the machine meets all of them; ratios are medians over rounds of neighbouring runs, with their range.
Weights are random and float32: speed does not depend on what a model says.
"""


@dataclass
class Section:
    """One table of the report."""

    title: str
    lines: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def add(self, label: str, results: list[Result], note: str = "") -> None:
        """One workload: a line per contender, the first being what the others are compared with."""
        for index, result in enumerate(results):
            ratio = (
                "1"
                if index == 0
                else f"{result.ratio:.2f} ({result.ratio_range[0]:.2f} to {result.ratio_range[1]:.2f})"
            )
            same = "" if index == 0 else f"{result.same_tokens:.0%}"
            self.lines.append(
                f"| {label} | {result.contender} | {result.tokens:,} | {result.tokens_per_second:,.0f} | {ratio} | {same} | "
                f"{result.peak_mib:,.0f} | {note if index == 0 else ''} |"
            )

    def problem(self, name: str, what: str) -> None:
        self.remarks.append(f"{name} did not run: {what.strip().splitlines()[-1][:200]}")

    def remark(self, text: str) -> None:
        self.remarks.append(text)

    def markdown(self) -> str:
        head = "| workload | contender | tokens | tokens/s | time per token, first = 1 | same tokens | peak MiB | |"
        head += "\n|---|---|--:|--:|--:|--:|--:|---|"
        parts = [f"## {self.title}", ""]
        if self.lines:
            parts += [head, *self.lines, ""]
        parts += [f"{remark}\n" for remark in self.remarks]
        return "\n".join(parts)


def write_report(path: Path, machine: Machine, sections: list[Section]) -> None:
    """Write the whole report."""
    facts = (
        f"Machine: {machine.processor}, {machine.threads} threads; {machine.gflops:.0f} GFLOP/s in a 1024-cubed product, "
        f"{machine.gigabytes_per_second:.1f} GB/s copying.\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEADER, facts, *(section.markdown() for section in sections)]))
