"""What the texts of a lane came to, where it was drawn several times: answers with their counts, right ones with an interval, lengths.

A text without a grade, such as one that was cut off, is counted as not right, and said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..statistics import wilson

BEGINNING = 60
"""Letters of a text that stand for it where no answer is found in it."""


def outcomes(rows: Sequence[Mapping[str, Any]], begun: int) -> dict[str, Any]:
    """Of the stored rows of one lane, which all go on from `begun` tokens."""
    graded = sum(bool(row["scorable"]) for row in rows)
    right = sum(bool(row["scorable"] and row["correct"]) for row in rows)
    found: dict[str, Any] = {
        "texts": len(rows),
        "distinct": len({tuple(row["token_ids"]) for row in rows}),
        "ended": sum(row["finish"] in ("eos", "stop") for row in rows),
        "tokens": sum(len(row["token_ids"]) for row in rows) / len(rows),
        "said": Counter(_said(row, begun) for row in rows).most_common(),
        "right": None,
    }
    if graded:
        share = wilson(right, len(rows))
        found["right"] = {
            "count": right,
            "of": len(rows),
            "low": share.low,
            "high": share.high,
            "ungraded": len(rows) - graded,
        }
    return found


def _said(row: Mapping[str, Any], begun: int) -> str:
    """What the text came to: its answer, else how it goes on."""
    if row["answer"]:
        return str(row["answer"])
    tokens = row["tokens"][begun:]
    apart = "" if any(" " in token for token in tokens) else " "
    words = " ".join(apart.join(tokens).split())
    return words[:BEGINNING] + ("…" if len(words) > BEGINNING else "") if words else "(nothing)"
