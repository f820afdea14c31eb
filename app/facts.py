"""The numbers of one token, for the panel beside the lanes.

1. Every number is the stored one; probability is exp(log-probability). What is not stored is shown as missing, with
   the reason.
2. Alternatives come from this arm and, at the same index, from the other arm only while both have the same prefix.
   After that the panel says from where on the two cannot be compared.
3. The address of a token is `a` or `b` (the lane) and its position over prompt and generated tokens: `b17`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from app.metrics import at, number
from app.pairing import Divergence


def parse_address(text: str | None, lengths: Mapping[str, int]) -> tuple[str, int] | None:
    """Lane and position of `text`; None when it names no token of these lanes."""
    match = re.fullmatch(r"([ab])(\d{1,7})", text or "")
    if not match or int(match[2]) >= lengths[match[1]]:
        return None
    return match[1], int(match[2])


def alternatives(row: Mapping[str, Any], index: int) -> list[dict[str, Any]]:
    """The likeliest next tokens that were stored for generated token `index`, best first."""
    stored = row["top_ids"] or []
    width = len(stored) // max(len(row["token_ids"]), 1)
    start = index * width
    tokens, ids = (row["top_tokens"] or [])[start : start + width], stored[start : start + width]
    found = []
    for offset, (token, token_id) in enumerate(zip(tokens, ids, strict=False)):
        logprob = at(row["top_logprob"], start + offset)
        found.append(
            {
                "token": str(token),
                "id": int(token_id),
                "logprob": logprob,
                "probability": None if logprob is None else math.exp(logprob),
                "chosen": int(token_id) == int(row["token_ids"][index]),
            }
        )
    return found


def token_facts(
    row: Mapping[str, Any],
    other: Mapping[str, Any],
    position: int,
    divergence: Divergence,
    label: str,
    other_label: str,
) -> dict[str, Any]:
    """Everything the panel says about the token at `position` of `row`."""
    prompt = len(row["prompt_ids"])
    index = position - prompt
    generated = index >= 0
    tokens, ids = (row["tokens"], row["token_ids"]) if generated else (row["prompt_tokens"], row["prompt_ids"])
    place = index if generated else position
    logprob = at(row["logprob"], index)
    spans = [s for s in row["labels"] or [] if generated and s["start"] <= index < s["end"]]
    facts: dict[str, Any] = {
        "lane": label,
        "token": str(tokens[place]),
        "id": int(ids[place]),
        "where": f"generated token #{index}" if generated else f"prompt token {position} of {prompt}",
        "position": position,
        "logprob": logprob,
        "probability": None if logprob is None else math.exp(logprob),
        "entropy": at(row["entropy"], index),
        "edit_ratio": at(row["edit_ratio"], position),
        "behaviours": [{**span, "confidence": number(span["confidence"])} for span in spans],
        "here": [],
        "there": [],
        "there_title": other_label,
        "note": "",
    }
    if not generated:
        facts["note"] = "A prompt token was given, not generated: it has no probability and no alternatives."
        return facts
    facts["here"] = alternatives(row, index)
    if not divergence.comparable(index):
        reason = "the prompts differ" if divergence.kind == "prompt" else f"the divergence at #{divergence.at}"
        after = "because" if divergence.kind == "prompt" else "after"
        facts["note"] = f"Not comparable {after} {reason}."
    elif index >= len(other["token_ids"]):
        facts["note"] = f"The other text has ended: it has {len(other['token_ids'])} tokens."
    else:
        facts["there"] = alternatives(other, index)
    return facts
