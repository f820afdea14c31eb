"""What cards found, as it is stored: points, tables, sentences, and the runs that hold the rows. Reading it imports no model.

A store's findings lie under `.elicitation`, one file per card and question.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ...store.files import files
from ...store.runs import Store

FOLDER = ".elicitation"
SHIPPED = Path(__file__).parent / "shipped"
"""Findings that come with the program: those that the cards' pages show, without their rows."""


class Point(BaseModel):
    """One arm in one setting: accuracy against all tokens generated. Shares and differences in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    setting: str
    arm: str
    label: str
    role: str
    n: int
    """Questions."""
    accuracy: float
    low: float
    high: float
    tokens: float
    """Generated per question, those of texts that were not chosen included."""
    truncated: int
    unscorable: int
    difference: float | None = None
    """Against the setting's baseline, paired."""
    difference_low: float | None = None
    difference_high: float | None = None
    p: float | None = None
    control: str | None = None
    """The arm that stands beside this one as its control."""
    over_control: float | None = None
    """Against that control, paired."""
    over_control_low: float | None = None
    over_control_high: float | None = None
    run: str
    """The run that holds its rows."""
    split: str


class Table(BaseModel):
    """A table of a card: heads, lines of text or numbers, and what is to be known to read it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    title: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str | int | float | None, ...], ...]
    notes: tuple[str, ...] = ()


Line = tuple[str | int | float | None, ...]


def filled(heads: Sequence[str], lines: Sequence[Line]) -> tuple[tuple[str, ...], tuple[Line, ...]]:
    """Heads and lines without the columns in which no line says anything; all of them where there is no line."""
    kept = [place for place in range(len(heads)) if not lines or any(line[place] is not None for line in lines)]
    return tuple(heads[place] for place in kept), tuple(tuple(line[place] for place in kept) for line in lines)


class Findings(BaseModel):
    """What a card found, as it is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    card: str
    systems: tuple[str, ...]
    papers: tuple[str, ...]
    pair: tuple[str, str | None]
    task: str
    preset: str
    options: dict[str, Any]
    points: tuple[Point, ...]
    tables: tuple[Table, ...]
    said: tuple[str, ...]
    """Sentences: what the numbers show, and what they do not."""
    runs: tuple[str, ...]
    version: int = 1
    """Of the card's code."""
    models: dict[str, str] = {}
    """Fingerprints of the pair, by name."""
    max_new_tokens: int | None = None
    """Tokens per text; None in files of earlier versions, whose runs say it."""


def stored_findings(store: Store) -> tuple[list[Findings], list[str]]:
    """What the store holds, by name of the card, and a sentence per file that cannot be read. Where several versions of a card were asked
    the same, the latest."""
    found, broken = [], []
    for file in files(store.root / FOLDER, ".json"):
        path = store.root / FOLDER / file.name
        try:
            found.append(Findings.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError) as error:
            broken.append(
                f"{path} holds no findings that this program reads ({str(error).splitlines()[0]}); delete it and run its card again."
            )
    latest: dict[str, Findings] = {}
    for one in found:
        asked = one.model_dump_json(include={"card", "pair", "models", "task", "options", "max_new_tokens"}) + "/".join(
            sorted({p.setting for p in one.points})
        )
        if asked not in latest or latest[asked].version <= one.version:
            latest[asked] = one
    return list(latest.values()), broken


def shipped_findings() -> list[Findings]:
    """What the program's own runs of the cards found, by name of the card."""
    return [Findings.model_validate_json(path.read_bytes()) for path in sorted(SHIPPED.glob("*.json"))]


def audits_of(found: Sequence[Findings], digest: str) -> list[str]:
    """What the audits among findings say of the vector with that digest, with the model and the task that they asked."""
    said = []
    for findings in found:
        if findings.card != "audit":
            continue
        where = f"{findings.pair[0]} on {findings.task}"
        about = [table.title for table in findings.tables if f"Vector {digest}." in table.notes]
        said += [
            f"{sentence} ({where})" for sentence in findings.said if any(_heads(sentence, title) for title in about)
        ]
    return list(dict.fromkeys(said))


def _heads(sentence: str, title: str) -> bool:
    """Whether a sentence begins with what a table's title begins with, up to the title's first comma behind it."""
    stops = [n for n in range(len(sentence)) if sentence.startswith(": ", n)]
    return any(title.startswith(f"{sentence[:stop]}, ") for stop in stops)
