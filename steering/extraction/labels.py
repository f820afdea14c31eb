"""Extraction from labelled spans of reasoning traces (arXiv 2506.18167): mean per label minus overall mean.

1. A span (start, end) of tokens, end exclusive, is read as the authors' code does: the mean over `start - 1` up to, not including,
   `min(end - 1, start + 10)`. That is the token before the span, which decides to begin it, and at most ten more; the last token of a
   short span is left out, and a one-token span is its predecessor alone.
2. m_b is the mean over the spans of label b, every span the same. The overall mean m is over traces, each trace being its mean over
   tokens from its first span's start to its last one's end; `overall='token'` lets long traces weigh more.
3. u_b = m_b - m, rescaled to the norm of m at that site, so that one vector norm of dose is comparable across labels and layers.
4. Counts are kept per label; labels with fewer than `few` spans are flagged in the notes.
5. One pass over the traces; memory is one mean per label and site.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import BadInput, unknown
from ..model.models import LoadedModel
from ..model.sites import Site
from ..vector.vectors import Provenance, SteeringVector
from .annotations import TextSpan, token_span
from .reading import Reading
from .samples import samples
from .sinks import without_sinks

BEFORE, AFTER = 1, 10
"""Tokens read before a span's start, and at most from its start on."""
FEW = 30


@dataclass(frozen=True, order=True)
class LabelledSpan:
    """Tokens `start` to `end` of a sequence, end exclusive, and what they do."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class LabelledTrace:
    """One sequence as fed (prompt and BOS included) and its labelled spans. Raises BadInput for a span outside it."""

    token_ids: tuple[int, ...]
    spans: tuple[LabelledSpan, ...]

    def __post_init__(self) -> None:
        for span in self.spans:
            if not 0 <= span.start < span.end <= len(self.token_ids):
                raise BadInput(
                    f"Span {span.label!r} ({span.start}, {span.end}) is not inside a trace of {len(self.token_ids)} tokens, or is empty."
                )


@dataclass(frozen=True)
class LabelMeans:
    """Mean activations per label. `means[label][site] [d_model]`, `overall[site] [d_model]`, float64; spans counted per label."""

    means: Mapping[str, Mapping[Site, Tensor]]
    overall: Mapping[Site, Tensor]
    counts: Mapping[str, int]
    traces: int
    data: str = ""


def labelled_trace(model: LoadedModel, text: str, spans: Sequence[TextSpan]) -> LabelledTrace:
    """Tokenise a text and carry its character spans over to tokens. For a trace that was generated here, give the ids that were generated
    to `LabelledTrace` instead: tokenising decoded text again may yield others.

    Raises BadInput when the tokenizer cannot say which characters a token covers, or when the text is longer than the context.
    """
    if not model.tokenizer.is_fast:
        raise BadInput(f"The tokenizer of {model.id} does not report character offsets; load its fast version.")
    encoded = model.tokenizer(text, return_offsets_mapping=True)
    ids, offsets = tuple(encoded["input_ids"]), encoded["offset_mapping"]
    if len(ids) > model.context:
        raise BadInput(f"The trace has {len(ids)} tokens; {model.id} reads at most {model.context}. Cut the text.")
    found = [(span.label, token_span(offsets, span.start, span.end)) for span in spans]
    return LabelledTrace(ids, tuple(LabelledSpan(*where, label) for label, where in found if where is not None))


def window(span: LabelledSpan, before: int = BEFORE, after: int = AFTER) -> tuple[int, int]:
    """The positions read for a span, end exclusive (see the module, 1). At a sequence's start there is no token before."""
    start = max(0, span.start - before)
    return start, max(start + 1, min(span.end - 1, span.start + after))


def label_means(
    model: LoadedModel,
    traces: Sequence[LabelledTrace],
    sites: Sequence[Site],
    *,
    before: int = BEFORE,
    after: int = AFTER,
    overall: Literal["trace", "token"] = "trace",
    batch_size: int = 8,
) -> LabelMeans:
    """Means per label and overall, in one pass. Traces without a labelled span are not read."""
    if overall not in ("trace", "token"):
        raise unknown("overall mean", overall, ("trace", "token"))
    if before < 0 or after < 1:
        raise BadInput(
            f"A window of {before} tokens before and {after} after a span's start is not one; give at least 0 and 1."
        )
    traces = [trace for trace in traces if trace.spans]
    if not traces:
        raise BadInput("No trace has a labelled span; check that the annotations were located in the text.")
    body = [(min(s.start for s in t.spans), max(s.end for s in t.spans)) for t in traces]
    reading = Reading.over(
        [t.token_ids for t in traces],
        [[whole, *(window(s, before, after) for s in t.spans)] for t, whole in zip(traces, body, strict=True)],
    )
    reading = without_sinks(model, reading)
    names = sorted({s.label for t in traces for s in t.spans})
    rows = []
    weights = []
    for trace, (start, end) in zip(traces, body, strict=True):
        rows += [0, *(1 + names.index(s.label) for s in trace.spans)]
        weights += [float(end - start) if overall == "token" else 1.0, *(1.0 for _ in trace.spans)]
    row, weight = torch.tensor(rows), torch.tensor(weights, dtype=torch.float64)
    totals = {site: torch.zeros(1 + len(names), model.d_model, dtype=torch.float64) for site in sites}
    done = 0
    for batch in samples(model, reading, sites, batch_size=batch_size):
        for site, values in batch.items():
            part = slice(done, done + len(values))
            totals[site].index_add_(0, row[part], values.double() * weight[part, None])
        done += len(next(iter(batch.values())))
    mass = torch.zeros(1 + len(names), dtype=torch.float64).index_add_(0, row, weight)
    facts: list[Any] = [[t.token_ids, [(s.start, s.end, s.label) for s in t.spans]] for t in traces]
    return LabelMeans(
        {name: {site: totals[site][1 + i] / mass[1 + i] for site in sites} for i, name in enumerate(names)},
        {site: totals[site][0] / mass[0] for site in sites},
        {name: rows.count(1 + i) for i, name in enumerate(names)},
        len(traces),
        hashlib.sha256(json.dumps([facts, before, after, overall]).encode()).hexdigest()[:16],
    )


def label_vectors(
    model: LoadedModel, means: LabelMeans, *, rescale: bool = True, few: int = FEW
) -> dict[str, dict[Site, SteeringVector]]:
    """Per label and site, m_b - m, with `rescale` at the norm of m. `model` is the one the means were read from.

    Notes: `norm_before` (of m_b - m, in residual-stream units) and `few`, true where the label has fewer than `few` spans.
    """
    vectors: dict[str, dict[Site, SteeringVector]] = {}
    for label, by_site in means.means.items():
        count = means.counts[label]
        vectors[label] = {}
        for site, mean in by_site.items():
            difference = mean.double() - means.overall[site].double()
            norm = float(difference.norm())
            if norm == 0:
                raise BadInput(f"The mean of {label!r} at {site} equals the overall mean, so it has no direction.")
            scale = float(means.overall[site].double().norm()) / norm if rescale else 1.0
            provenance = Provenance(
                "label-span means",
                model.fingerprint,
                model.id,
                contrast=f"mean over spans of {label} minus overall mean{', at the norm of the overall mean' if rescale else ''}",
                data=means.data,
                counts=(count, means.traces),
                notes={"label": label, "norm_before": norm, "few": count < few},
            )
            vectors[label][site] = SteeringVector(label, site, (difference * scale).float(), provenance)
    return vectors
