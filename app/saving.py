"""What Compare offers to take away: the page, an excerpt, the two rows. Each is made when it is asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from experiments.traces import trace_html
from experiments.traces.rows import as_jsonl, as_markdown, as_parquet

Row = Mapping[str, Any]


def save_menu(
    name: str, rows: Sequence[Row], arms: Sequence[Row], data: Mapping[str, Any], more: Mapping[str, Any], source: str
) -> None:
    """A menu of downloads. `name` is of the files, `data` the view that is shown, `more` what it was made with."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")[:80] or "trace"

    def page() -> bytes:
        view = {
            key.removeprefix("cmp_"): st.query_params.get(key) for key in ("cmp_tok", "cmp_metric", "cmp_mode", "cmp_q")
        }
        return trace_html(rows, arms, source=source, **{**more, "view": view or data["view"]}).encode()

    def excerpt() -> bytes:
        return as_markdown(rows, arms, data["part"], data["divergence"][: len(rows)]).encode()

    files = [
        ("Page (HTML)", "html", "text/html", page, "This comparison in one file that opens without a network"),
        ("Excerpt (Markdown)", "md", "text/markdown", excerpt, "The text around the place where the two part"),
        ("Rows (Parquet)", "parquet", "application/vnd.apache.parquet", lambda: as_parquet(rows), "All stored columns"),
        ("Rows (JSONL)", "jsonl", "application/jsonl", lambda: as_jsonl(rows).encode(), "All stored columns"),
    ]
    with st.popover("Save", icon=":material/download:", key="cmp_save", help="This comparison as a file"):
        for label, ending, kind, make, words in files:
            st.download_button(
                label,
                make,
                f"{stem}.{ending}",
                kind,
                key=f"cmp_save_{ending}",
                help=words,
                on_click="ignore",
                width="stretch",
            )
