"""Contests between contenders in their own processes: the same workload in turn, A B A B, and ratios within each round.

Times on a shared machine drift; ratios of runs that stand next to each other drift less. A contest reports the median ratio over rounds and
the range, and whether the contenders wrote the same tokens.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .workloads import Workload

WORKER = Path(__file__).parent / "worker.py"


class Contender:
    """A worker process."""

    def __init__(self, name: str, model: Path, threads: int, python: str = sys.executable):
        self.name = name
        command = [python, str(WORKER), name, str(model), str(threads)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None and self.process.stderr is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        tail = self.process.stderr.read()[-600:]
        raise RuntimeError(f"{self.name} ended: {tail}")

    def run(self, workload: str) -> dict[str, Any]:
        """Seconds, peak memory and tokens of one run. Raises RuntimeError when the contender cannot do the work."""
        assert self.process.stdin is not None
        self.process.stdin.write(workload + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)


@dataclass(frozen=True)
class Result:
    """One contender's runs of a workload next to the first contender's."""

    contender: str
    seconds: tuple[float, ...]
    ratio: float
    """Median over rounds of this contender's seconds over the first contender's: above 1 is slower."""
    ratio_range: tuple[float, float]
    tokens: int
    tokens_per_second: float
    """At the fastest round."""
    peak_mib: float
    same_tokens: float
    """Share of rows whose tokens equal the first contender's."""


def contest(
    contenders: list[Contender], workloads: list[Workload | str], rounds: int, warm: bool = True
) -> list[Result]:
    """Run each contender on its workload (the same for all when one is given), in turn, `rounds` times."""
    lines = [w if isinstance(w, str) else w.to_json() for w in workloads]
    lines = lines * len(contenders) if len(lines) == 1 else lines
    if warm:
        for contender, line in zip(contenders, lines, strict=True):
            contender.run(line)
    answers: list[list[dict[str, Any]]] = [[] for _ in contenders]
    for _ in range(rounds):
        for index, (contender, line) in enumerate(zip(contenders, lines, strict=True)):
            answers[index].append(contender.run(line))
    results = []
    first = answers[0]
    for contender, found in zip(contenders, answers, strict=True):
        ratios = [a["seconds"] / b["seconds"] for a, b in zip(found, first, strict=True)]
        tokens = sum(map(len, found[0]["tokens"]))
        equal = [a == b for a, b in zip(found[0]["tokens"], first[0]["tokens"], strict=False)]
        results.append(
            Result(
                contender.name,
                tuple(a["seconds"] for a in found),
                statistics.median(ratios),
                (min(ratios), max(ratios)),
                tokens,
                tokens / min(a["seconds"] for a in found),
                max(a["peak_mib"] for a in found),
                sum(equal) / len(equal) if equal else 0.0,
            )
        )
    return results
