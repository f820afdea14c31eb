"""Two rows, or one, as what a trace view is drawn from: one JSON value, the same for the app, a notebook and an exported page.

1. It holds everything that the view shows: no number is computed in a browser but differences of the ones that are here.
2. Scales are shared by the lanes that are shown together; a metric that was not computed has no scale, and says why.
3. `view` is what a link says: chosen token, metric, mode and search. A value that this data does not have is replaced, and named.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .divergence import Divergence, part, part_by_text
from .lanes import behaviour_marks, edits, lane
from .metrics import METRICS, common_scale

Row = Mapping[str, Any]
MODES = {
    "linked": "lanes side by side, scrolled together",
    "free": "lanes side by side, each scrolled by itself",
    "fork": "what both arms share is shown once, then the text splits",
}
DEFAULT_METRIC, DEFAULT_MODE = "logprob", "linked"


def payload(value: Any) -> Any:
    """`value` with everything that JSON cannot say replaced by null."""
    if isinstance(value, Mapping):
        return {str(key): payload(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [payload(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def divergence_of(rows: Sequence[Row], tokenisers: Sequence[str | None] = ()) -> Divergence:
    """Where two rows part; by text when their tokenisers (fingerprints) are known and differ."""
    if len(rows) < 2:
        return Divergence("same", None)
    left, right = rows[0], rows[1]
    if len(set(tokenisers)) > 1 and None not in tokenisers:
        return part_by_text(left["tokens"], right["tokens"])
    return part(left["prompt_ids"], left["token_ids"], right["prompt_ids"], right["token_ids"])


def trace_data(
    rows: Sequence[Row],
    arms: Sequence[Mapping[str, Any]],
    *,
    labels: Sequence[str] | None = None,
    tokenisers: Sequence[str | None] = (),
    kl_missing: str = "not computed for this row",
    view: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """What the view of one or two rows is drawn from. `labels` are all behaviours that keep their letters together (those of a split);
    `kl_missing` says why there is no KL, or how to get it; a row with a list `kl` has one."""
    every = [span["label"] for row in rows for span in row["labels"] or []]
    marks = behaviour_marks([*(labels or ()), *every])
    divergence = divergence_of(rows, tokenisers)
    lanes = [lane(row, arm, marks) for row, arm in zip(rows, arms, strict=True)]
    data: dict[str, Any] = {
        "identity": hashlib.sha256(json.dumps([[row.get("key"), row.get("arm")] for row in rows]).encode()).hexdigest()[
            :16
        ],
        "lanes": lanes,
        "scales": {},
        "missing": {},
        "bar_top": max((size for row in rows for size in edits(row)), default=0.0),
        "divergence": list(divergence.places),
        "comparable": divergence.comparable(0) and len(rows) > 1,
        "part": divergence.sentence if len(rows) > 1 else "one arm",
        "kind": divergence.kind,
        "by_text": divergence.by_text,
        "behaviours": _legend(rows, marks),
    }
    for name in METRICS:
        if name != "none" and any(name in found["numbers"] for found in lanes):
            scale = common_scale(rows, name)
            data["scales"][name] = {"top": scale.top, "sign": METRICS[name].sign, **scale.legend()}
        elif name != "none":
            data["missing"][name] = kl_missing if name == "kl" else "no numbers per token are stored"
    data["identity"] += hashlib.sha256(json.dumps([*data["scales"], every]).encode()).hexdigest()[:8]
    data["view"], data["stale"] = checked_view(data, view or {})
    return payload(data)


def _legend(rows: Sequence[Row], marks: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Behaviours that are shown, with who found them and how sure that was."""
    shown: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        for span in row["labels"] or []:
            shown.setdefault(span["label"], []).append(span)
    legend = []
    for name in sorted(shown):
        sure = [float(span["confidence"]) for span in shown[name]]
        confidence = f"{min(sure):.2f}" if min(sure) == max(sure) else f"{min(sure):.2f} to {max(sure):.2f}"
        detectors = ", ".join(sorted({span["detector"] for span in shown[name]}))
        source = f"{len(sure)}×, detector {detectors}, confidence {confidence}"
        legend.append({"label": name, **marks[name], "source": source})
    return legend


def checked_view(data: Mapping[str, Any], view: Mapping[str, str | None]) -> tuple[dict[str, str | None], list[str]]:
    """The view that can be shown, and a sentence for each part of the one asked for that cannot."""
    stale = []
    lengths = {side: len(found["tokens"]) for side, found in zip("ab", data["lanes"], strict=False)}
    token = view.get("tok") or None
    if token and not address_of(token, lengths):
        stale.append(f"token {token}, which these texts do not have")
        token = None
    known = [*data["scales"], "none"]
    default = next((name for name in (DEFAULT_METRIC, *known) if name in known), "none")
    metric = view.get("metric") or default
    if metric not in known:
        reason = data["missing"].get(metric)
        stale.append(f"tint {METRICS[metric].label}: {reason}" if reason else f"tint {metric}, which does not exist")
        metric = default
    mode = view.get("mode") or DEFAULT_MODE
    if mode not in MODES:
        stale.append(f"mode {mode}, which does not exist; there are {', '.join(MODES)}")
        mode = DEFAULT_MODE
    elif mode == "fork" and (not data["comparable"] or data["kind"] == "prompt"):
        stale.append("mode fork, which needs two texts after the same prompt in the same tokens")
        mode = DEFAULT_MODE
    return {"tok": token, "metric": metric, "mode": mode, "q": (view.get("q") or "")[:200]}, stale


def address_of(text: str, lengths: Mapping[str, int]) -> tuple[str, int] | None:
    """Lane and position that `a17` or `b17` names; None when it names no token of these lanes."""
    match = re.fullmatch(r"([ab])(\d{1,7})", text)
    if not match or int(match[2]) >= lengths.get(match[1], 0):
        return None
    return match[1], int(match[2])
