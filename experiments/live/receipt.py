"""The receipt of a live generation: what was planned, what was made, whether the unsteered text came out the same again."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from steering.engine.record import Generation
from steering.model.sites import Site

NEVER = "The gate never opened: the text is the unsteered one."


def receipt_of(
    steered: Sequence[Generation], sites: Sequence[Site], replay: str, hooks: int, trouble: str | None, stopped: bool
) -> dict[str, Any]:
    """Of the texts of the steered lane, edits counted over all of them; `ok` is false when a check failed, and None where nothing was
    steered."""
    if not steered:
        return {"ok": None if hooks == 0 else False, "steered": False, "replay": replay, "hooks": hooks}
    sizes = [size for one in steered for size in one.receipt.ratio if size > 0]
    fired, planned = (sum(getattr(one.receipt, name) for one in steered) for name in ("fired", "planned"))
    broken = next((one.nonfinite for one in steered if one.nonfinite is not None), None)
    gated = any(one.receipt.gated for one in steered)
    problems = [trouble] if trouble else []
    if broken is not None:
        problems.append(f"the text breaks off, and is not graded: {broken}; give a smaller dose, or load in float32")
    if any(
        one.receipt.fired != one.receipt.planned and not (gated and one.receipt.fired < one.receipt.planned)
        for one in steered
    ):
        problems.append(f"{planned} edits were planned and {fired} made")
    elif planned == 0 and not stopped and broken is None:
        problems.append("no edit was made: the text ended before the span began")
    if replay == "differs":
        problems.append("the unsteered text, generated again alone, is another one")
    if hooks:
        problems.append(f"{hooks} hooks were left in the model")
    said = list(dict.fromkeys(warning for one in steered for warning in one.receipt.warnings))
    return {
        "ok": not problems,
        "steered": True,
        "problems": problems,
        "fired": fired,
        "planned": planned,
        "gated": gated,
        "positions": len(sizes),
        "of": sum(len(one.prompt_ids) + len(one.token_ids) for one in steered),
        "texts": len(steered),
        "sites": sorted({site.name for site in sites}),
        "median": statistics.median(sizes) if sizes else None,
        "max": max(sizes, default=None),
        "warnings": [*said, *([NEVER] if gated and planned and not fired else [])],
        "replay": replay,
        "hooks": hooks,
    }
