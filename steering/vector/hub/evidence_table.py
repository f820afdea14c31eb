"""What is shown of a vector, a plan or a probe, as a card has it: a table of effects, and sentences on what was not asked.

1. Where nothing is shown the card says so, in the place of the table.
2. An arm without random directions and a wrong sign that was not run are named.
"""

from __future__ import annotations

from .evidence import Difference, Effect, Evidence
from .markdown import line, plain

NOTHING_SHOWN = "**No evidence is attached: that it does anything is not shown.**"
FEW = 30
"""Questions below which an effect is called exploratory."""
_HEADS = (
    *(
        "run",
        "split",
        "arm",
        "n",
        "right, %",
        "baseline, %",
        "difference, points",
        "random controls",
        "wrong sign, points",
    ),
    *("tokens", "at the limit, or not gradable"),
)


def shown(evidence: Evidence, what: str = "vector") -> str:
    """The paragraphs under *What it does*. `what` is whose effects they are."""
    made = [f"**How well it is determined** {' '.join(map(plain, evidence.quality))}"] if evidence.quality else []
    if evidence.empty:
        return "\n\n".join([NOTHING_SHOWN, *made])
    parts = []
    if evidence.effects:
        rows = [_row(effect) for effect in evidence.effects]
        lines = [line(_HEADS), line(["---"] * len(_HEADS)), *(line(one) for one in rows)]
        parts.append("\n".join(lines))
        asked = sorted(
            {
                f"{plain(one.task)}, asked of {plain(one.model)}"
                + ("" if one.new_tokens is None else f", texts of at most {one.new_tokens} tokens")
                + _drawn(one)
                for one in evidence.effects
                if one.task and one.model
            }
        )
        parts += [f"The questions: {'; '.join(asked)}."] if asked else []
        parts += [f"**{plain(remark)}**" for remark in evidence.remarks]
        parts, made = [*parts, *made], []
        levels = sorted({f"{100 * effect.level:g} %" for effect in evidence.effects})
        parts.append(
            f"Intervals are of {' and '.join(levels)}; differences are paired by question. A p comes from an exact test of its own, "
            "so that close to the limit it and the interval can differ."
        )
        few = [effect for effect in evidence.effects if effect.n < FEW]
        if few:
            parts.append(
                f"{len(few)} of these lines {'rests' if len(few) == 1 else 'rest'} on fewer than {FEW} questions: exploratory."
            )
        thin = [effect for effect in evidence.effects if effect.controls is not None and effect.controls.few]
        if thin:
            parts.append(
                f"{len(thin)} of these lines {'stands' if len(thin) == 1 else 'stand'} beside too few controls for the interval beyond "
                "them to be relied on."
            )
        bare = [effect for effect in evidence.effects if effect.controls is None and effect.role == "steered"]
        if bare:
            parts.append(
                f"{len(bare)} of these arms {'stands' if len(bare) == 1 else 'stand'} beside no random direction: "
                "whether any edit of that size would do the same is open."
            )
    else:
        parts.append("No measured effect is attached.")
    for title, said, lacking in (
        ("Is it just a word?", evidence.word_audit, f"Nobody has asked whether the {what} is more than a word."),
        ("What else changes", evidence.side_effects, "No side effect was measured."),
    ):
        parts.append(f"**{title}** " + (" ".join(map(plain, said)) if said else lacking))
    parts += made
    parts.append(f"These numbers are the author's own; pulling the {what} does not repeat them.")
    return "\n\n".join(parts)


def _drawn(effect: Effect) -> str:
    """How texts were drawn."""
    if effect.temperature is None:
        return ""
    if not effect.temperature:
        return ", greedy"
    more = [
        f"{name} {value:g}" for name, value in (("top-k", effect.top_k), ("top-p", effect.top_p)) if value is not None
    ]
    return ", ".join([f", drawn at temperature {effect.temperature:g}", *more])


def _row(effect: Effect) -> list[str]:
    found, beside, wrong = effect.difference, effect.controls, effect.wrong_sign
    controls = "none" if effect.role == "steered" else "is a control itself"
    if beside is not None:
        unmatched = "" if beside.matched is not False else ", not of equal size"
        controls = (
            f"{beside.as_good} of {beside.count} {plain(beside.kind)} as good{unmatched}, rank p = {beside.rank_p:.3g}"
        )
        if not beside.as_good:
            controls += f" (the least that {beside.count} can give)"
        if beside.lowest is not None and beside.highest is not None:
            controls += f"; theirs lie between {100 * beside.lowest:.1f} and {100 * beside.highest:.1f} % right"
        controls += f"; {_points(beside.difference)} points beyond them" if beside.difference is not None else ""
    tokens = "" if effect.tokens is None else f"{effect.tokens:.0f}"
    if effect.tokens is not None and effect.token_difference is not None:
        tokens += f" ({round(effect.token_difference) + 0:+d})"
    told = [f"{effect.truncated} at the limit of tokens"] if effect.truncated is not None else []
    told += [f"{effect.unscorable} not gradable"] if effect.unscorable is not None else []
    beside_wrong = "" if effect.role != "steered" else "not run"
    if wrong is not None and effect.role == "steered":
        beside_wrong = _points(wrong.difference) or f"{plain(wrong.arm)}, n = {wrong.n}"
    arm = plain(effect.arm) + (f": {plain(effect.plan)}" if effect.plan else "")
    return [
        plain(effect.run),
        plain(effect.split),
        arm,
        str(effect.n),
        f"{100 * effect.accuracy:.1f} ({100 * effect.low:.1f} to {100 * effect.high:.1f})",
        "" if effect.baseline is None else f"{100 * effect.baseline:.1f}",
        _points(found),
        controls,
        beside_wrong,
        tokens,
        ", ".join(told),
    ]


def _points(found: Difference | None) -> str:
    if found is None:
        return ""
    p = "" if found.p is None else f", p = {found.p:.3g}" if found.p else ", p < 1e-6"
    return f"{100 * found.value:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f}{p})"
