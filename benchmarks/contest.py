"""Contests between contenders in their own processes: the same workload in turn, A B A B, and ratios within each round.

Times on a shared machine drift; ratios of runs that stand next to each other drift less. A contest reports the median ratio over rounds and
the range, and whether the contenders wrote the same tokens.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
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
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self.log.seek(0)
        raise RuntimeError(f"{self.name} ended: {self.log.read()[-600:]}")

    def run(self, workload: str) -> dict[str, Any]:
        """Seconds, peak memory and tokens of one run. Raises RuntimeError when the contender cannot do the work."""
        assert self.process.stdin is not None
        self.process.stdin.write(workload + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)


@dataclass(frozen=True)
class Entry:
    """One contender's part in a contest."""

    contender: Contender
    workload: Workload
    label: str = ""
    picks: tuple[int, ...] | None = None
    """Rows of the first entry that this one generates, where it does a share of the work."""


@dataclass(frozen=True)
class Result:
    """One contender's runs of a workload next to the first contender's."""

    contender: str
    ratio: float
    """Median over rounds of this contender's seconds per token over the first contender's: above 1 is slower."""
    ratio_range: tuple[float, float]
    tokens: int
    tokens_per_second: float
    """At the fastest round."""
    peak_mib: float
    same_tokens: float
    """Share of rows whose tokens equal the first contender's."""


def contest(entries: list[Entry], rounds: int, warm: bool = True) -> list[Result]:
    """Run each contender on its workload, in turn, `rounds` times."""
    if warm:
        for entry in entries:
            entry.contender.run(entry.workload.to_json())
    answers: list[list[dict[str, Any]]] = [[] for _ in entries]
    for _ in range(rounds):
        for entry, found in zip(entries, answers, strict=True):
            found.append(entry.contender.run(entry.workload.to_json()))
    results, first = [], answers[0]
    counts = [sum(map(len, found[0]["tokens"])) for found in answers]
    for entry, found, count in zip(entries, answers, counts, strict=True):
        mine = found[0]["tokens"]
        theirs = [first[0]["tokens"][i] for i in (range(len(mine)) if entry.picks is None else entry.picks)]
        ratios = [a["seconds"] / count / (b["seconds"] / counts[0]) for a, b in zip(found, first, strict=True)]
        results.append(
            Result(
                entry.label or entry.contender.name.removesuffix("_library"),
                statistics.median(ratios),
                (min(ratios), max(ratios)),
                count,
                count / min(a["seconds"] for a in found),
                max(a["peak_mib"] for a in found),
                sum(a == b for a, b in zip(mine, theirs, strict=True)) / len(mine),
            )
        )
    return results
