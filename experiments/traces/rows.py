"""The two rows of a comparison as files for other programs, and a generation as a row.

1. Parquet and JSONL hold every stored column, and `kl` where there is a forced reading.
2. A Markdown excerpt shows the text around a token of each lane, with what was edited and where the texts part; stored text is fenced.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..store.columns import ROW_SCHEMA
from .data import Row, payload
from .lanes import edits, receipt, verdict
from .static import visible

if TYPE_CHECKING:
    from steering.engine.record import Generation
    from steering.model.models import LoadedModel

    from ..tasks.graders.grade import Grade

AROUND = 60
"""Tokens of an excerpt on each side of its middle."""


def as_parquet(rows: Sequence[Row]) -> bytes:
    """The rows as one Parquet file."""
    schema = ROW_SCHEMA.append(pa.field("kl", pa.list_(pa.float32())))
    table = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def as_jsonl(rows: Sequence[Row]) -> str:
    """The rows as JSON, one a line."""
    return "".join(json.dumps(payload(dict(row)), ensure_ascii=False) + "\n" for row in rows)


def as_markdown(rows: Sequence[Row], arms: Sequence[Mapping[str, Any]], part: str, middle: Sequence[int | None]) -> str:
    """An excerpt: `middle` holds a generated token of each lane; None shows the beginning."""
    lines = [f"Question `{_inline(rows[0]['item'])}`, right answer `{_inline(rows[0]['gold'])}`: {part}.", ""]
    for row, arm, at in zip(rows, arms, middle, strict=True):
        judged, tokens = verdict(row), [str(token) for token in row["tokens"]]
        words = not any(token != token.strip() and token.strip() for token in tokens)
        begin = max(0, (at or 0) - AROUND)
        end = min(len(tokens), begin + 2 * AROUND)
        sizes = edits(row)[len(row["prompt_ids"]) :]
        shown = [
            ("◆ " if i == at else "") + ("*" if sizes[i] > 0 else "") + visible(tokens[i]) for i in range(begin, end)
        ]
        text = (" " if words else "").join(shown) if tokens else str(row["text"])
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
        lines += [
            f"**{_plain(arm['label'])}** ({arm['role']}): answer `{_inline(judged['answer'])}` {judged['mark']} {judged['meaning']}, "
            f"{len(tokens)} tokens, {receipt(row).sentence}",
            "",
            f"{fence}text",
            ("… " if begin else "") + text + (" …" if end < len(tokens) else ""),
            fence,
            "",
        ]
    return "\n".join([*lines, "`◆`: the token of this excerpt; `*`: steering edited this position.", ""])


def _inline(text: object) -> str:
    return str(text).replace("`", "'").replace("\n", "↵")


def _plain(text: object) -> str:
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+-.!|$" else c for c in _inline(text))


def generation_row(
    model: LoadedModel, found: Generation, item: str = "prompt", gold: str = "", grade: Grade | None = None
) -> dict[str, Any]:
    """A finished generation as a row, as far as a trace view reads one. Without a grade it is shown as unscorable."""
    from steering.model.prompts import token_texts

    prompt, generated = token_texts(model, found.prompt_ids), token_texts(model, found.token_ids)
    text = model.tokenizer.decode(list(found.token_ids), skip_special_tokens=True)
    return {
        "key": None, "arm": None, "item": item, "gold": gold, "prompt": model.tokenizer.decode(list(found.prompt_ids)),
        "text": text, "answer": grade.answer if grade else None, "correct": bool(grade and grade.correct),
        "scorable": bool(grade and grade.scorable),
        "truncated": found.finish == "length",
        "trace_ok": None, "well_formed": None,
        "finish": found.finish, "prompt_ids": list(found.prompt_ids), "token_ids": list(found.token_ids), "prompt_tokens": prompt,
        "tokens": generated, "logprob": list(found.logprob), "entropy": list(found.entropy), "top_ids": list(found.top_ids),
        "top_tokens": token_texts(model, found.top_ids), "top_logprob": list(found.top_logprob), "edit_ratio": list(found.receipt.ratio),
        "edits_planned": found.receipt.planned, "edits_fired": found.receipt.fired, "labels": [],
    }  # fmt: skip
