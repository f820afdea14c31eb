"""In which layers a path's first token takes hold: its activations put in the place of another first token's.

1. Run A is the prompt with the greedy path's first token, run B with that of the surest path among the other first tokens. Behind it both
   are fed the same tokens: path B's own, or the cue that asks for an answer. Only the first token differs.
2. At one layer after the other the stream at the first token's position (`resid_post`) is replaced in run A by run B's. Predictions are
   read at *later* positions alone, which must attend to it: at that position itself nothing else differs, and it would predict as in run B
   whatever the layer.
3. Recovery = (patched - A) / (B - A), of the log-probability of path B's next tokens (`told`), and of the nearness of the whole
   prediction to run B's, which is minus the Jensen-Shannon divergence and 0 in run B: along path B (`path`), and behind the cue (`cue`). It
   is the part that layers behind the patched one still hand on from there: about 1 where none has read it, and 0 at the last layer by
   construction. The layer by which half of it is read is the one that commits.
4. Other first tokens, drawn at random, are put there in the same way: they too take run A's away, and lead to no path B.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from steering.attribution import continuation, distance, measured, replaced
from steering.engine.generation import Row, generate
from steering.engine.predicted import next_logprobs
from steering.engine.sampling import GenerationSettings
from steering.model.capture import capture
from steering.model.models import LoadedModel
from steering.model.sites import Site

from ...decoders.candidates import own_seed
from ...decoders.paths import cue_ids
from ...statistics import GapRecovered, gap_recovered, rank_p
from ...store.runs import Run
from ...tasks.items import stream_seed
from .asked import Setting
from .findings import Table
from .workroom import Workroom

READS = {
    "told": "log-probability of path B's next tokens, nats",
    "path": "divergence along path B, bits",
    "cue": "divergence of the answer behind the cue, bits",
}
LEAST = 4
"""Questions below which nothing is said."""
MATTERS = 0.01
"""Bits or nats below which the first token hardly changes what is read."""


@dataclass(frozen=True)
class Layers:
    """One question in one reading, higher being nearer to run B: run A, run B, run A with run B's stream put in at each layer `[layers]`,
    and with each random token's `[tokens, layers]`."""

    one: float
    other: float
    patched: np.ndarray
    random: np.ndarray


def committing(
    room: Workroom, run: Run, setting: Setting, questions: int, tokens: int, randoms: int, cue: str
) -> tuple[list[Table], list[str]]:
    """A table and a sentence per reading, of the first `questions` of a setting that have another path."""
    rows = [
        row
        for row in run.table(columns=["split", "item", "prompt_ids", "candidates"], arms=["max"]).to_pylist()
        if row["split"] == setting.split
    ][:questions]
    made = [one for row in rows if (one := _question(room, row, tokens, randoms, cue))]
    if len(made) < LEAST:
        return [], [
            f"{setting.name}: {len(made)} of {len(rows)} questions have another path with an answer and a second token; of fewer than "
            f"{LEAST} it is not said which layer commits."
        ]
    pairs = Counter(tuple(one["first"]) for one in made).most_common(3)
    words = ", ".join(f"{a!r} and {b!r} ({count})" for (a, b), count in pairs)
    lines: list[tuple[str | int | float | None, ...]] = []
    said = []
    for name, title in READS.items():
        read = [
            Layers(found["one"], found["other"], np.array(found["patched"]), np.array(found["random"]))
            for one in made
            if (found := one[name])
        ]
        if len(read) < LEAST:
            said.append(f"{setting.name}: {title}: only {len(read)} questions have it.")
            continue
        own = [recovered(read, layer) for layer in range(len(read[0].patched))]
        lines += [_line(title, layer, read, one) for layer, one in enumerate(own)]
        said.append(f"{setting.name}: {title}: {sentence(read, own)}")
    note = (
        f"First tokens, A and B: {words}; of {len(rows)} questions {len(made)} have both, and in "
        f"{sum(one['otherwise'] for one in made)} the paths answer otherwise."
    )
    return [
        Table(
            title=f"{setting.name}: which layers read the first token",
            heads=(
                *("read", "B's first token put in after layer", "questions", "B from A", "recovery (95 % over questions)"),
                *(f"{randoms} random tokens (range)", "rank p"),
            ),
            lines=tuple(lines),
            notes=(
                note,
                "Recovery: of the difference at later positions, means over questions; 0 at the last layer by construction, below 0 where "
                f"the prediction moves away from run B's. Rank p: one-sided, never below {1 / (1 + randoms):.3g}.",
            ),
        )
    ], said  # fmt: skip


def _question(room: Workroom, row: dict[str, Any], tokens: int, randoms: int, cue: str) -> dict[str, Any] | None:
    """What is read of a question; None where it has no other path. A part: made once."""
    paths = row["candidates"]
    others = [n for n, path in enumerate(paths) if n and path["score"] is not None]
    if not others:
        return None
    rank = max(others, key=lambda n: (paths[n]["score"], -n))
    prompt, asked = tuple(row["prompt_ids"]), cue_ids(room.base, cue)
    facts = {
        "model": room.asked.base, "prompt": prompt, "item": row["item"], "rank": rank, "tokens": tokens, "randoms": randoms,
        "cue": cue,
    }  # fmt: skip
    seed = own_seed(stream_seed(row["item"], 0), rank)
    made = room.part("commits", facts, lambda: read(room.base, prompt, rank, tokens, randoms, asked, seed))
    return made | {"otherwise": paths[0]["answer"] != paths[rank]["answer"]} if made else None


def read(
    model: LoadedModel, prompt: tuple[int, ...], rank: int, tokens: int, randoms: int, cue: tuple[int, ...], seed: int
) -> dict[str, Any] | None:
    """All readings of one prompt with its likeliest first token and that of rank `rank` (0-based); None where path B has no second token
    or no room."""
    ranked = next_logprobs(model, [Row(prompt)])[0].topk(rank + 1).indices.tolist()
    one, other = ranked[0], ranked[rank]
    if {one, other} & set(model.eos_ids) or len(prompt) + 1 + max(tokens, len(cue)) > model.context:
        return None
    written = generate(model, [Row(prompt, begun=(other,))], GenerationSettings(tokens), detail="tokens")[0]
    path = tuple(token for token in written.token_ids[1:] if token not in model.eos_ids)
    if not path:
        return None
    special = {one, other, *model.eos_ids, *model.tokenizer.all_special_ids}
    free = [token for token in range(len(model.tokenizer)) if token not in special]
    drawn = np.random.default_rng(seed).choice(free, min(randoms, len(free)), replace=False).tolist()
    sites, at = [Site(layer) for layer in range(model.n_layers)], len(prompt)
    texts = [(*prompt, token) for token in (other, *drawn)]
    streams = [{site: batch.values[site][:, at].clone() for site in sites} for batch in capture(model, texts, sites)]
    values = {site: torch.cat([part[site] for part in streams]) for site in sites}
    whole = [(*prompt, token, *path) for token in (one, other)]
    asked = [(*prompt, token, *cue) for token in (one, other)]
    ahead = range(at + 1, at + 1 + len(path))
    metrics = {
        "path": distance(model, whole[0], whole[1], ahead),
        "cue": distance(model, asked[0], asked[1], [at + len(cue)]),
    }
    if len(path) > 1:
        metrics["told"] = continuation([whole[0][: at + 2]], [path[1:]])
        (ceiling,) = measured(model, continuation([whole[1][: at + 2]], [path[1:]]))
    found: dict[str, Any] = dict.fromkeys(READS)
    for name, metric in metrics.items():
        scale, best = (len(path) - 1, ceiling) if name == "told" else (-1, 0.0)
        table = torch.stack(list(replaced(model, metric, at, values).values()), dim=1) / scale
        found[name] = {
            "one": measured(model, metric)[0] / scale, "other": best / scale, "patched": table[0].tolist(),
            "random": table[1:].tolist(),
        }  # fmt: skip
    return found | {"first": [model.tokenizer.decode([token]).strip() for token in (one, other)]}


def recovered(read: Sequence[Layers], layer: int) -> GapRecovered:
    """The part of run B minus run A that run B's stream at a layer (0-based) brings, means over questions."""
    return gap_recovered([one.one for one in read], [one.patched[layer] for one in read], [one.other for one in read])


def by_random(read: Sequence[Layers], layer: int) -> np.ndarray:
    """The same by the stream of each random token, `[tokens]`; a question's n-th token is another one in each question."""
    given = np.mean([one.random[:, layer] - one.one for one in read], axis=0)
    return given / np.mean([one.other - one.one for one in read])


def beyond(read: Sequence[Layers], own: Sequence[GapRecovered]) -> list[int]:
    """Layers, counted from 1, after which the interval lies above a half and above every random token's recovery."""
    return [
        layer + 1
        for layer, one in enumerate(own[:-1])
        if one.interval is not None and one.interval.low > max(0.5, float(by_random(read, layer).max()))
    ]


def _line(title: str, layer: int, read: Sequence[Layers], own: GapRecovered) -> tuple[str | int | float | None, ...]:
    line = (title, f"{layer + 1} of {len(read[0].patched)}", len(read), f"{own.gap:.5f}")
    if own.value is None or own.interval is None:
        return (*line, f"none: {own.reason}", None, None)
    if layer + 1 == len(read[0].patched):
        return (*line, "0 by construction", None, None)
    drawn = by_random(read, layer)
    return (
        *line, f"{own.value:.2f} ({own.interval.low:.2f} to {own.interval.high:.2f})",
        f"{drawn.mean():.2f} ({drawn.min():.2f} to {drawn.max():.2f})", round(rank_p(own.value, drawn), 3),
    )  # fmt: skip


def sentence(read: Sequence[Layers], own: Sequence[GapRecovered]) -> str:
    """Which layer commits, by the intervals and the random tokens: the one behind the last after which more than half is handed on, where
    that is less than half after it."""
    last = len(own)
    words = f"the first token makes {own[0].gap:.5f} of difference ({len(read)} questions)"
    if own[0].gap < MATTERS:
        words += f", which is hardly anything (below {MATTERS:g}): what is fed behind it says it all"
    if own[0].interval is None:
        return f"{words}; which layer reads it is not said, for {own[0].reason}."
    found = beyond(read, own)
    below = [
        n for n, one in enumerate(own[:-1], 1) if n > max(found, default=0) and one.interval and one.interval.high < 0.5
    ]
    first, until = max(found, default=0) + 1, min(below, default=last)
    if found:
        words += f"; layers after which more than half is handed on, and more than by any random token: {found[0]}"
        words += f" to {found[-1]} of {last}" if len(found) > 1 else f" of {last}"
    else:
        words += f"; after no layer of {last} is clearly more than half handed on, and more than by any random token"
    which = f"layer {first} commits" if first == until else f"which of layers {first} to {until} commits is not told"
    return f"{words}; {which}."
