"""Sampling at matched compute: best of n, majority, power sampling and budget forcing beside the greedy base, by all tokens generated.

Sources: self-consistency 2203.11171; power sampling 2510.14901; budget forcing 2501.19393. Low temperature is not power sampling and stands
beside it; budget forcing with a word of the task that asks for nothing is its control.
"""

from __future__ import annotations

from pydantic import Field

from .card import Card, Options
from .findings import Point, Table
from .points import points_of, said_of
from .workroom import Workroom

WORDS = {"find-start": ("wait", "ok")}
"""The word that budget forcing puts in the place of the end, and one that says nothing, in the words of a task."""


class SamplingOptions(Options):
    samples: int = Field(default=8, ge=2)
    exponent: float = Field(default=4.0, gt=1)
    block: int = Field(default=48, ge=1)
    steps: int = Field(default=4, ge=1)
    word: str | None = None
    empty: str | None = None
    """The control of `word`."""


def run(room: Workroom, options: SamplingOptions) -> tuple[list[Point], list[Table], list[str]]:
    points: list[Point] = []
    said, lines = [], []
    known = WORDS.get(room.asked.found.name.split(":")[0], ("\nWait", "\nOK"))
    word, empty = options.word or known[0], options.empty or known[1]
    drawn = {"kind": "samples", "n": options.samples}
    for setting in room.asked.settings:
        arms = [
            *room.references(setting),
            room.arm(setting, "sample", "one sample", "control", decoder={**drawn, "choose_by": "first"}),
            room.arm(setting, "majority", f"majority of {options.samples}", decoder={**drawn, "choose_by": "majority"}),
            room.arm(setting, "best", f"likeliest of {options.samples}", decoder={**drawn, "choose_by": "logprob"}),
            room.arm(
                setting, "best-normalised", f"likeliest of {options.samples}, per token", decoder={**drawn, "choose_by": "normalised"}
            ),
            room.arm(
                setting, "power", f"power sampling, exponent {options.exponent:g}",
                decoder={"kind": "power-sampling", "exponent": options.exponent, "block": options.block, "steps": options.steps},
            ),
            room.arm(
                setting, "cold", f"one sample at temperature {1 / options.exponent:g}", "control",
                decoder={"kind": "samples", "n": 1, "temperature": 1 / options.exponent, "choose_by": "first"},
            ),
            room.arm(setting, "forced", f"budget forcing, {word.strip()!r}", decoder={"kind": "budget-forcing", "word": word}),
            room.arm(
                setting, "forced-empty", f"budget forcing, {empty.strip()!r}", "control", decoder={"kind": "budget-forcing", "word": empty}
            ),
        ]  # fmt: skip
        found = room.evaluate("sampling", setting, arms, options.n)
        own = points_of(
            found, setting,
            {"majority": "sample", "best": "sample", "best-normalised": "sample", "power": "cold", "forced": "forced-empty"},
        )  # fmt: skip
        points += own
        rates = [
            row["candidates"][0]["score"]
            for row in found.table(columns=["split", "candidates"], arms=["power"]).to_pylist()
            if row["split"] == setting.split
        ]
        moved = [rate for rate in rates if rate is not None]
        lines.append((setting.name, round(sum(moved) / len(moved), 3) if moved else None, len(moved), len(rates)))
        said += [said_of(point) for point in own if point.role == "steered"]
    table = Table(
        title="Power sampling: share of proposals that changed the text",
        heads=("setting", "changed", "texts with a proposal", "texts"),
        lines=tuple(lines),
        notes=(
            "A chain that hardly moves stays at its first text, a sample at the low temperature: proposals that are the same text again, "
            "or are refused, change nothing.",
        ),
    )
    return points, [table], said


CARD = Card(
    name="sampling",
    title="Sampling at matched compute",
    systems=("S29",),
    papers=("2510.14901", "2203.11171", "2501.19393"),
    measures="accuracy against all tokens generated of majority, best of n, power sampling and budget forcing",
    control="one sample; low temperature beside power sampling; an empty word beside budget forcing",
    quick=SamplingOptions(n=40),
    full=SamplingOptions(n=200, steps=8),
    run=run,
    version=2,
)
