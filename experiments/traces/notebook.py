"""A trace view as an object: shown by a notebook, written to a file, quoted as Markdown. Needs neither the app nor a network.

1. `_repr_html_` is readable without JavaScript and cut at `CAP` tokens per lane, with a note; `to_html` has everything.
2. Several outputs in one notebook do not touch each other.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steering.errors import BadInput

from .data import Row, divergence_of, trace_data
from .page import piece, trace_html
from .rows import as_markdown, generation_row

if TYPE_CHECKING:
    from steering.engine.record import Generation
    from steering.model.models import LoadedModel

    from ..store.runs import Run
    from ..tasks.graders.grade import Grade

CAP = 1500
"""Tokens per lane in a notebook: about 3,000 in two lanes."""


@dataclass(frozen=True)
class TraceView:
    """One or two rows of the run store beside their arms (mappings with `label` and `role`)."""

    rows: tuple[Row, ...]
    arms: tuple[Mapping[str, Any], ...]
    view: Mapping[str, str | None] = field(default_factory=dict)
    """Chosen token (`tok`, such as `b17`), `metric`, `mode` and search `q` to begin with."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.rows) <= 2 or len(self.rows) != len(self.arms):
            raise BadInput(
                f"A trace view has one or two rows and as many arms, not {len(self.rows)} and {len(self.arms)}."
            )

    @classmethod
    def of(cls, run: Run, item: str, arms: Sequence[str], seed: int | None = None, **view: str | None) -> TraceView:
        """Rows of a stored run: one item in one or two arms. Raises StoreError where there is none."""
        from ..store.runs import StoreError
        from .forced_kl import with_kl

        found = []
        for name in arms:
            rows = run.table(["key", "item", "seed"], arms=[name], items=[item]).to_pylist()
            keys = [row["key"] for row in rows if seed is None or row["seed"] == seed]
            if not keys:
                raise StoreError(f"Arm {name!r} of run {run.manifest.run_id!r} has no row of item {item!r}.")
            found.append(with_kl(run, run.trace(keys[0])))
        described = {arm.name: arm.model_dump() for arm in run.manifest.arms}
        return cls(tuple(found), tuple(described[name] for name in arms), view)

    @classmethod
    def between(
        cls,
        model: LoadedModel,
        base: Generation,
        steered: Generation,
        *,
        gold: str = "",
        grades: Sequence[Grade | None] = (None, None),
        **view: str | None,
    ) -> TraceView:
        """An unsteered and a steered generation of one model, with their grades where they were graded."""
        one, two = grades
        rows = generation_row(model, base, gold=gold, grade=one), generation_row(model, steered, gold=gold, grade=two)
        arms = ({"label": "unsteered", "role": "baseline"}, {"label": "steered", "role": "steered"})
        return cls(rows, arms, view)

    def to_html(self, path: Path | str, title: str = "") -> Path:
        """Write the page. Returns the path."""
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(trace_html(self.rows, self.arms, title=title, view=self.view), encoding="utf-8")
        return place

    def to_markdown(self) -> str:
        """An excerpt around the place where the texts part."""
        found = divergence_of(self.rows)
        return as_markdown(self.rows, self.arms, found.sentence, found.places[: len(self.rows)])

    def __repr__(self) -> str:
        said = ", ".join(
            f"{arm['label']}: {len(row['token_ids'])} tokens" for row, arm in zip(self.rows, self.arms, strict=True)
        )
        return f"TraceView({said}; {divergence_of(self.rows).sentence})"

    def _repr_html_(self) -> str:
        longest = max(len(row["prompt_ids"]) + len(row["token_ids"]) for row in self.rows)
        note = ""
        if longest > CAP:
            note = f"<p><i>The first {CAP:,} of {longest:,} tokens per lane; to_html(path) writes all of them.</i></p>"
        data = trace_data([_cut(row) for row in self.rows], self.arms, view=self.view)
        title = html.escape(repr(self))
        return f'<div role="region" aria-label="{title}">{note}{piece(data)}</div>'


def _cut(row: Row) -> Row:
    """A row with at most `CAP` tokens; a prompt that is longer is left whole."""
    kept = max(0, CAP - len(row["prompt_ids"]))
    if len(row["token_ids"]) <= kept:
        return row
    width = len(row["top_ids"] or ()) // max(len(row["token_ids"]), 1)
    lengths = {**dict.fromkeys(("token_ids", "tokens", "logprob", "entropy", "kl"), kept)}
    lengths |= dict.fromkeys(("top_ids", "top_tokens", "top_logprob"), kept * width)
    lengths["edit_ratio"] = len(row["prompt_ids"]) + kept
    short = {name: list(row[name])[:end] for name, end in lengths.items() if row.get(name) is not None}
    labels = [{**span, "end": min(span["end"], kept)} for span in row["labels"] or [] if span["start"] < kept]
    return {**row, **short, "labels": labels}
