"""A run with long texts: what the speed of the trace view is measured on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.store.runs import Run, Store
from tests.experiments.fake_run import make_manifest, make_rows

WORDS = (
    "Wait",
    ",",
    " let",
    " me",
    " check",
    " that",
    " 12",
    " ×",
    " 7",
    " is",
    " 84",
    ".",
    " So",
    " the",
    " sum",
    " holds",
)
LINE = 60
"""Tokens between line breaks."""


def lengthened(row: dict[str, Any], n: int) -> dict[str, Any]:
    """The row with `n` generated tokens in lines, labels over half of them and an edit at every third when its arm is steered."""
    tokens = ["\n\n" if i % LINE == LINE - 1 else WORDS[(i * 7 + i // 11) % len(WORDS)] for i in range(n)]
    ids = [sum(map(ord, token)) for token in tokens]
    prompt = len(row["prompt_ids"])
    fired = row["arm"] == "steered"
    sizes = [0.0] * prompt + [0.1 + (i % 5) / 20 if fired and i % 3 == 0 else 0.0 for i in range(n)]
    edits = sum(size > 0 for size in sizes)
    names, detectors = ("backtracking", "computing", "concluding"), ("lexicon", "grammar")
    labels = [
        {
            "label": names[j % 3],
            "start": 80 * j,
            "end": 80 * j + 40,
            "detector": detectors[j % 2],
            "confidence": 0.5 + 0.4 * (j % 2),
        }
        for j in range(n // 80)
    ]
    top = [word for i in range(n) for word in (tokens[i], " a", " b", " c", " d")]
    return {
        **row,
        "tokens": tokens,
        "token_ids": ids,
        "logprob": [-((i * 37) % 100) / 25 for i in range(n)],
        "entropy": [((i * 53) % 100) / 40 for i in range(n)],
        "top_tokens": top,
        "top_ids": [sum(map(ord, word)) for word in top],
        "top_logprob": [-((i * 37) % 100) / 25 - 0.5 * k for i in range(n) for k in range(5)],
        "edit_ratio": sizes,
        "edits_planned": edits,
        "edits_fired": edits,
        "labels": labels,
        "text": "".join(tokens),
    }


def make_long_run(root: Path, n: int) -> Run:
    """The run `fake` with one question, whose baseline and steered arm have `n` tokens each."""
    manifest = make_manifest("fake", 1)
    run = Store(root).create(manifest)
    rows = [row for row in make_rows(1) if row["split"] == "standard-test"]
    run.write([lengthened(row, n) if row["arm"] in ("base_bare", "steered") else row for row in rows])
    run.set_status("complete")
    return run
