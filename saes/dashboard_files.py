"""The tables of a dashboard as Parquet: a row per latent, and a row per example, in row groups of neighbouring latents.

1. Lists that belong to the labels or to the parts of a text follow the order of `labels` and `position_tokens` in dashboard.json.
2. Rates are shares of the tokens that count: `density` of all, `rate_right` and `rate_wrong` of the generated tokens of texts whose answer
   is right or wrong (null where there are none), `label_share` of the latent's active tokens, `label_activation_share` of its summed
   activation. Labels may overlap and need not cover a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from steering.model.models import LoadedModel
from steering.model.prompts import token_texts

from .activity import PARTS, Activity, Coactivation
from .corpus import Text
from .dictionary import Dictionary
from .directions import decoder_neighbours
from .examples import Windows
from .logit_effect import logit_effects

FEATURES, EXAMPLES = "features.parquet", "examples.parquet"
GROUP = 512
"""Latents per row group: what a lazy read of one latent has to decode."""
COMPRESSION = "zstd"
_INTS, _FLOATS, _TEXTS = pa.list_(pa.int32()), pa.list_(pa.float32()), pa.list_(pa.string())
FEATURE_COLUMNS = pa.schema(
    [
        ("latent", pa.int32()), ("active", pa.int64()), ("density", pa.float64()), ("peak", pa.float32()), ("mean", pa.float64()),
        ("mean_active", pa.float64()), ("decoder_norm", pa.float32()), ("rate_right", pa.float64()), ("rate_wrong", pa.float64()),
        ("histogram_edges", _FLOATS), ("histogram", pa.list_(pa.int64())),
        ("top_ids", _INTS), ("top_tokens", _TEXTS), ("top_logits", _FLOATS),
        ("bottom_ids", _INTS), ("bottom_tokens", _TEXTS), ("bottom_logits", _FLOATS),
        ("neighbours", _INTS), ("neighbour_cosines", _FLOATS),
        ("coactive", _INTS), ("coactive_phi", _FLOATS), ("coactive_tokens", pa.list_(pa.int64())),
        ("position_active", pa.list_(pa.int64())), ("label_active", pa.list_(pa.int64())),
        ("label_share", _FLOATS), ("label_activation_share", _FLOATS),
    ]
)  # fmt: skip
EXAMPLE_COLUMNS = pa.schema(
    [
        ("latent", pa.int32()), ("band", pa.int8()), ("low", pa.float64()), ("activation", pa.float32()), ("count", pa.int64()),
        ("text", pa.int32()), ("position", pa.int32()), ("start", pa.int32()), ("prompt", pa.int32()), ("active", pa.int32()),
        ("ids", _INTS), ("tokens", _TEXTS), ("activations", _FLOATS),
    ]
)  # fmt: skip


def _ends(
    model: LoadedModel, dictionary: Dictionary, latents: range, count: int
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(ids, effects) of the tokens most promoted, and of those most demoted; empty where decoder rows are not in the residual stream."""
    if dictionary.site.kind == "z":
        nothing = (np.zeros((len(latents), 0), np.int64), np.zeros((len(latents), 0), np.float32))
        return nothing, nothing
    found = logit_effects(model, dictionary, latents, k=count)
    return (found.promoted, found.promoted_effects), (found.demoted, found.demoted_effects)


def write_features(
    path: Path,
    model: LoadedModel,
    dictionary: Dictionary,
    activity: Activity,
    together: Coactivation,
    tokens: int,
    neighbours: int,
) -> None:
    """One row per latent, in order; `tokens` promoted and demoted tokens, `neighbours` of both kinds."""
    near, cosines = decoder_neighbours(dictionary.decoder, neighbours)
    coactive, phi, both = together.neighbours(neighbours)
    rates = activity.group_active / activity.groups
    with pq.ParquetWriter(path, FEATURE_COLUMNS, compression=COMPRESSION) as writer:
        for start in range(0, dictionary.latents, GROUP):
            stop = min(start + GROUP, dictionary.latents)
            ends = _ends(model, dictionary, range(start, stop), tokens)
            shown = _texts(model, [token for ids, _ in ends for token in ids.flatten().tolist()])
            rows = []
            for latent in range(start, stop):
                active, total = float(activity.active[latent]), float(activity.total[latent])
                edges, counts = _trimmed(activity, latent)
                label = slice(PARTS + 2, None)
                row: dict[str, Any] = {
                    "latent": latent,
                    "active": int(active),
                    "density": active / activity.tokens,
                    "peak": float(activity.peak[latent]),
                    "mean": total / activity.tokens,
                    "mean_active": total / active if active else 0.0,
                    "decoder_norm": float(dictionary.norms[latent]),
                    "rate_right": float(rates[latent, PARTS]) if activity.groups[PARTS] else None,
                    "rate_wrong": float(rates[latent, PARTS + 1]) if activity.groups[PARTS + 1] else None,
                    "histogram_edges": edges,
                    "histogram": counts,
                    "neighbours": near[latent].tolist(),
                    "neighbour_cosines": cosines[latent].tolist(),
                    "coactive": coactive[latent].tolist(),
                    "coactive_phi": phi[latent].tolist(),
                    "coactive_tokens": both[latent].tolist(),
                    "position_active": activity.group_active[latent, :PARTS].long().tolist(),
                    "label_active": activity.group_active[latent, label].long().tolist(),
                    "label_share": (activity.group_active[latent, label] / max(active, 1.0)).tolist(),
                    "label_activation_share": (activity.group_total[latent, label] / (total or 1.0)).tolist(),
                }
                for side, (ids, logits) in zip(("top", "bottom"), ends, strict=True):
                    row[f"{side}_ids"] = ids[latent - start].tolist()
                    row[f"{side}_logits"] = logits[latent - start].tolist()
                    row[f"{side}_tokens"] = [shown[token] for token in row[f"{side}_ids"]]
                rows.append(row)
            writer.write_table(pa.Table.from_pylist(rows, schema=FEATURE_COLUMNS), row_group_size=GROUP)


def _trimmed(activity: Activity, latent: int) -> tuple[list[float], list[int]]:
    """The histogram between its first and its last bin that is not empty."""
    filled = activity.histogram[latent].nonzero().flatten()
    if not len(filled):
        return [], []
    first, last = int(filled[0]), int(filled[-1])
    return activity.edges[first : last + 2].tolist(), activity.histogram[latent, first : last + 1].tolist()


def write_examples(
    path: Path, model: LoadedModel, texts: Sequence[Text], found: Windows, before: int, after: int
) -> None:
    """One row per chosen window, in their order."""
    shown = _texts(model, [token for text in set(found.text.tolist()) for token in texts[text].ids])
    with pq.ParquetWriter(path, EXAMPLE_COLUMNS, compression=COMPRESSION) as writer:
        rows: list[dict[str, Any]] = []
        group = 0
        for i in range(len(found.latent)):
            if rows and found.latent[i] // GROUP != group:
                writer.write_table(pa.Table.from_pylist(rows, schema=EXAMPLE_COLUMNS))
                rows = []
            group = found.latent[i] // GROUP
            text, position = texts[int(found.text[i])], int(found.position[i])
            start, stop = max(0, position - before), min(len(text.ids), position + after + 1)
            offset = before - (position - start)
            ids = list(text.ids[start:stop])
            rows.append(
                {
                    "latent": int(found.latent[i]),
                    "band": int(found.band[i]),
                    "low": float(found.low[i]),
                    "activation": float(found.activation[i]),
                    "count": int(found.count[i]),
                    "text": int(found.text[i]),
                    "position": position,
                    "start": start,
                    "prompt": min(max(text.prompt - start, 0), stop - start),
                    "active": position - start,
                    "ids": ids,
                    "tokens": [shown[token] for token in ids],
                    "activations": found.along[i, offset : offset + stop - start].tolist(),
                }
            )
        writer.write_table(pa.Table.from_pylist(rows, schema=EXAMPLE_COLUMNS))


def _texts(model: LoadedModel, ids: Sequence[int]) -> dict[int, str]:
    different = sorted(set(ids))
    return dict(zip(different, token_texts(model, different), strict=True))
