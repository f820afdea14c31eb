"""Sampling at matched compute: best of n, majority, power sampling and budget forcing beside the greedy base, by all tokens generated.

Sources: self-consistency 2203.11171; power sampling 2510.14901; budget forcing 2501.19393. Low temperature is not power sampling and stands
beside it; budget forcing with a word of the task that asks for nothing is its control.
"""

from __future__ import annotations

from pydantic import Field

from ...store.runs import Run
from .asked import Setting
from .card import Card, Options
from .findings import Point, Table
from .points import points_of, said_of
from .workroom import Workroom

WORDS = {"find-start": ("wait", "ok")}
"""The word that budget forcing puts in the place of the end, and one that says nothing, in the words of a task."""


class SamplingOptions(Options):
    samples: int = Field(default=8, ge=2)
    """Texts per question."""
    exponent: float = Field(default=4.0, gt=1)
    """Alpha: texts are drawn from the base's probabilities to this power."""
    block: int = Field(default=48, ge=1)
    """Tokens per block of power sampling."""
    steps: int = Field(default=4, ge=1)
    """Proposals per block of power sampling."""
    word: str | None = None
    """What budget forcing writes where a text would end; by default a word of the task."""
    empty: str | None = None
    """The control of `word`."""


def run(room: Workroom, options: SamplingOptions) -> tuple[list[Point], list[Table], list[str]]:
    points: list[Point] = []
    said, lines = [], []
    known = WORDS["find-start"] if room.asked.base.startswith("builtin:") else ("\nWait", "\nOK")
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
        rates = [rate for rate in scores_of(found, setting, "power") if rate is not None]
        put = {arm: sum(bool(score) for score in scores_of(found, setting, arm)) for arm in ("forced", "forced-empty")}
        lines.append(
            (
                setting.name,
                options.n,
                len(rates),
                round(sum(rates) / len(rates), 3) if rates else None,
                put["forced"],
                put["forced-empty"],
            )
        )
        said += [said_of(point) for point in own if point.role == "steered"]
    table = Table(
        title="What power sampling and budget forcing did",
        heads=(
            *(
                "setting",
                "texts",
                "with a proposal",
                "share of proposals that changed the text",
                f"with {word.strip()!r} put in",
            ),
            f"with {empty.strip()!r} put in",
        ),
        lines=tuple(lines),
        notes=(
            "A chain that hardly moves stays at its first text, a sample at the low temperature: proposals that are the same text again, "
            "or are refused, change nothing. A text that is cut at the limit has no end to put a word in the place of.",
        ),
    )
    return points, [table], said


def scores_of(found: Run, setting: Setting, arm: str) -> list[float | None]:
    """The score of the one candidate of each text of an arm."""
    rows = found.table(columns=["split", "candidates"], arms=[arm]).to_pylist()
    return [row["candidates"][0]["score"] for row in rows if row["split"] == setting.split]


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
    version=4,
)
