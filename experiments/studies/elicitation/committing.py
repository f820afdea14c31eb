"""In which layers a path's first token takes hold: its activations put in the place of another first token's.

1. Run A is the prompt with the greedy path's first token, run B with that of the surest path among the other first tokens. Behind it both
   are fed the same tokens: path B's own, or the cue that asks for an answer. Only the first token differs.
2. At one layer after the other the stream at the first token's position (`resid_post`) is replaced in run A by run B's. Predictions are
   read at *later* positions alone, which must attend to it: at that position itself nothing else differs, and it would predict as in run B
   whatever the layer.
3. Recovery = 1 - D(patched, B) / D(A, B), D being the Jensen-Shannon divergence, mean over positions: the part of the difference that is
   handed on from there by layers behind the patched one. It falls from about 1 to 0 at the last layer, by construction. Where it falls is
   where the first token is read; the layer by which half of it is read is the one that commits.
4. Other first tokens, drawn at random, are put there in the same way: they too take run A's away, and lead to no path B.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from steering.attribution import distance, measured, replaced
from steering.engine.forced import unsteered_logprob
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

READS = {"path": "path B's next tokens", "cue": "the answer, behind the cue"}
LEAST = 4
"""Questions below which nothing is said."""
MATTERS = 0.01
"""Bits below which the first token hardly changes what is read."""


@dataclass(frozen=True)
class Layers:
    """One question in one reading, in bits from run B: run A, with run B's stream at each layer `[layers]`, with each random token's
    `[tokens, layers]`."""

    apart: float
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
            Layers(one[name]["apart"], np.array(one[name]["patched"]), np.array(one[name]["random"])) for one in made
        ]
        own = [recovered(read, layer) for layer in range(len(read[0].patched))]
        lines += [_line(title, layer, read, one) for layer, one in enumerate(own)]
        said.append(f"{setting.name}: {title}: {sentence(read, own)}")
    told = [one["told"] for one in made if one["told"]]
    gap = (
        f" Run B predicts path B's tokens by {np.mean([b - a for a, b in told]):+.4f} nats per token more than run A."
        if told
        else ""
    )
    note = (
        f"First tokens, A and B: {words}; of {len(rows)} questions {len(made)} have both, and in "
        f"{sum(one['other'] for one in made)} the paths answer otherwise.{gap}"
    )
    return [
        Table(
            title=f"{setting.name}: which layers read the first token",
            heads=(
                *("read", "B's first token put in after layer", "questions", "A from B, bits", "recovery (95 % over questions)"),
                *(f"{randoms} random tokens (range)", "rank p"),
            ),
            lines=tuple(lines),
            notes=(
                note,
                "Recovery: of the divergence from run B at later positions, means over questions; 0 at the last layer by construction, "
                f"below 0 where the prediction moves away from run B's. Rank p: one-sided, never below {1 / (1 + randoms):.3g}.",
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
    return made | {"other": paths[0]["answer"] != paths[rank]["answer"]} if made else None


def read(
    model: LoadedModel, prompt: tuple[int, ...], rank: int, tokens: int, randoms: int, cue: tuple[int, ...], seed: int
) -> dict[str, Any] | None:
    """Both readings of one prompt with its likeliest first token and that of rank `rank` (0-based); None where path B has no second token
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
    found: dict[str, Any] = {"first": [model.tokenizer.decode([token]).strip() for token in (one, other)], "told": []}
    for name, tail in (("path", path), ("cue", cue)):
        reads = range(at + 1, at + 1 + len(path)) if name == "path" else [at + len(cue)]
        apart = distance(model, (*prompt, one, *tail), (*prompt, other, *tail), reads)
        table = torch.stack(list(replaced(model, apart, at, values).values()), dim=1)
        found[name] = {"apart": measured(model, apart)[0], "patched": table[0].tolist(), "random": table[1:].tolist()}
    if len(path) > 1:
        scored = unsteered_logprob(model, [((*prompt, token), path) for token in (one, other)])
        found["told"] = [float(np.mean(score[1:])) for score in scored]
    return found


def recovered(read: Sequence[Layers], layer: int) -> GapRecovered:
    """The part of the divergence that is gone with run B's stream put in after a layer (0-based), means over questions."""
    apart = [-one.apart for one in read]
    return gap_recovered(apart, [-one.patched[layer] for one in read], np.zeros(len(read)))


def by_random(read: Sequence[Layers], layer: int) -> np.ndarray:
    """The same by the stream of each random token, `[tokens]`; a question's n-th token is another one in each question."""
    apart = float(np.mean([one.apart for one in read]))
    return 1 - np.mean([one.random[:, layer] for one in read], axis=0) / apart


def beyond(read: Sequence[Layers], own: Sequence[GapRecovered]) -> list[int]:
    """Layers, counted from 1, whose interval lies above a half and above every random token's recovery."""
    return [
        layer + 1
        for layer, one in enumerate(own)
        if one.interval is not None and one.interval.low > max(0.5, float(by_random(read, layer).max()))
    ]


def _line(title: str, layer: int, read: Sequence[Layers], own: GapRecovered) -> tuple[str | int | float | None, ...]:
    line = (title, f"{layer + 1} of {len(read[0].patched)}", len(read), f"{np.mean([one.apart for one in read]):.5f}")
    if own.value is None or own.interval is None:
        return (*line, f"none: {own.reason}", None, None)
    drawn = by_random(read, layer)
    return (
        *line, f"{own.value:.2f} ({own.interval.low:.2f} to {own.interval.high:.2f})",
        f"{drawn.mean():.2f} ({drawn.min():.2f} to {drawn.max():.2f})", round(rank_p(own.value, drawn), 3),
    )  # fmt: skip


def sentence(read: Sequence[Layers], own: Sequence[GapRecovered]) -> str:
    """Which layer commits, by the intervals and the random tokens."""
    apart, last = float(np.mean([one.apart for one in read])), len(own)
    words = f"the two first tokens put the predictions {apart:.5f} bits apart ({len(read)} questions)"
    if apart < MATTERS:
        words += f", which is hardly anything (below {MATTERS:g}): what is fed behind them says it all"
    if own[0].interval is None:
        return f"{words}; which layer reads them is not said, for {own[0].reason}."
    found = beyond(read, own)
    if not found:
        return (
            f"{words}; after no layer does the first token's position hand on clearly more than half of that and more than any random "
            f"token there ({own[0].value:.2f} after layer 1, {own[0].interval.low:.2f} to {own[0].interval.high:.2f}): no layer is told."
        )
    first, until = found[0], found[-1]
    value = own[until - 1]
    assert value.value is not None and value.interval is not None
    return (
        f"{words}; the first layer after which the first token's position hands on more than half of that, and more than any random token "
        f"there, is {first} of {last}, the last {until} ({value.value:.2f}, {value.interval.low:.2f} to {value.interval.high:.2f}): layer "
        f"{until + 1} commits."
    )
