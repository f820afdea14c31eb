"""Readings without attention sinks: the default of every extraction, said in the vector's provenance.

1. A reading that was made with `sinks=True` is read as it is.
2. A span keeps its other positions. A span, or a whole reading, that holds nothing else is refused: nothing would be left to read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import BadInput
from ..model.models import LoadedModel
from ..model.sinks import sinks_of
from .reading import Reading


def without_sinks(model: LoadedModel, reading: Reading) -> Reading:
    """The reading without the attention sinks of `model`; the same one where it names none or asks for them (`Reading.sinks`).

    Raises BadInput where a span, or everything, is a sink.
    """
    if reading.sinks:
        return reading
    found = set(sinks_of(model).positions)
    if not any(p in found for row in reading.positions for p in row):
        return reading
    kept = [[n for n, p in enumerate(row) if p not in found] for row in reading.positions]
    positions = tuple(tuple(row[n] for n in own) for row, own in zip(reading.positions, kept, strict=True))
    hint = "Read other positions; to read the sink itself, put +sinks after what is read (in Python: sinks=True)."
    if not any(positions):
        raise BadInput(
            f"The reading holds nothing but {sinks_of(model).words}, an attention sink of {model.id}. {hint}"
        )
    if reading.spans is None:
        return replace(reading, positions=positions)
    spans = tuple(tuple(row[n] for n in own) for row, own in zip(reading.spans, kept, strict=True))
    for index, (before, after) in enumerate(zip(reading.spans, spans, strict=True)):
        if lost := sorted(set(before) - set(after)):
            raise BadInput(
                f"Span {lost[0]} of sequence {index} holds nothing but {sinks_of(model).words}, an attention sink of {model.id}. {hint}"
            )
    return replace(reading, positions=positions, spans=spans)


def sink_notes(model: LoadedModel, *readings: tuple[Reading, Reading]) -> dict[str, Any]:
    """What of (asked, read) readings was left out, for a vector's notes; empty where nothing was."""
    left = sum(sum(map(len, asked.positions)) - sum(map(len, read.positions)) for asked, read in readings)
    if not left:
        return {}
    found = sinks_of(model)
    return {"sinks_left_out": {"positions": list(found.positions), "tokens": left, "ratio": round(found.ratio, 1)}}
