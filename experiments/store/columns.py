"""The columns of a row: names, types, what may be null, and what must be equally long."""

from __future__ import annotations

import pyarrow as pa

FINISHES = ("eos", "length", "stop", "cancelled", "nonfinite")

_IDS, _WORDS, _NUMBERS = pa.list_(pa.int32()), pa.list_(pa.string()), pa.list_(pa.float32())
_LABEL = {
    **{"label": pa.string(), "start": pa.int32(), "end": pa.int32()},
    **{"detector": pa.string(), "confidence": pa.float32()},
}
_CHOICE = {
    **{"token": pa.int32(), "category": pa.int32(), "alpha": pa.float32()},
    **{"agreed": pa.bool_(), "matched": pa.bool_()},
}
_CANDIDATE = {
    **{"text": pa.string(), "answer": pa.string(), "correct": pa.bool_(), "tokens": pa.int32()},
    **{"logprob": pa.float32(), "score": pa.float32(), "chosen": pa.bool_(), "asked": pa.bool_()},
}
COLUMNS: dict[str, pa.DataType] = {
    **dict.fromkeys(("key", "arm", "split", "item"), pa.string()),
    **dict.fromkeys(("order", "seed"), pa.int32()),
    **dict.fromkeys(("prompt", "gold", "text", "answer"), pa.string()),
    **dict.fromkeys(("correct", "scorable", "truncated", "trace_ok", "well_formed"), pa.bool_()),
    "finish": pa.string(),
    **dict.fromkeys(("prompt_ids", "token_ids"), _IDS),
    **dict.fromkeys(("prompt_tokens", "tokens"), _WORDS),
    **dict.fromkeys(("logprob", "entropy"), _NUMBERS),
    "top_ids": _IDS,
    "top_tokens": _WORDS,
    **dict.fromkeys(("top_logprob", "edit_ratio"), _NUMBERS),
    **dict.fromkeys(("edits_planned", "edits_fired"), pa.int32()),
    "labels": pa.list_(pa.struct(list(_LABEL.items()))),
    "choices": pa.list_(pa.struct(list(_CHOICE.items()))),
    **dict.fromkeys(("unclosed", "lenient"), pa.bool_()),
    "spent": pa.int32(),
    "candidates": pa.list_(pa.struct(list(_CANDIDATE.items()))),
}
OPTIONAL = ("choices", "unclosed", "lenient", "spent", "candidates")
"""Columns that a row which is written may leave out."""
NULLABLE = ("answer", "trace_ok", "well_formed", *OPTIONAL)
ROW_SCHEMA = pa.schema([pa.field(name, kind, nullable=name in NULLABLE) for name, kind in COLUMNS.items()])
"""One row is one generated sequence; lengths, units and meanings are in the table of the design."""

IDENTITY = ("key", "arm", "split", "item", "order", "seed")
ALIGNED = (
    ("prompt_ids", "prompt_tokens"),
    ("token_ids", "tokens", "logprob", "entropy"),
    ("top_ids", "top_tokens", "top_logprob"),
)
