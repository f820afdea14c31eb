"""Power sampling (2510.14901): texts drawn from p^a by Metropolis-Hastings over suffixes.

1. A text grows in blocks. After each block, `steps` times: a cut is drawn uniformly over the places up to the block's end, the suffix from
   there is written anew by the model sharpened token by token (temperature 1/a), and taken with probability min(1, A),
   log A = a [log p(new) - log p(old)] + log r(old) - log r(new) over the suffixes, r being the proposal.
2. A cut beyond the end of a text that has ended changes nothing. (Were cuts drawn over the text's own length, texts of different lengths
   would be proposed at different rates and the chain would not keep p^a.)
3. At a = 1 the proposal is the target and every proposal is taken. All tokens of refused proposals are counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from steering.engine.generation import Generation, Row, generate
from steering.engine.predicted import sharpened_logprobs
from steering.engine.sampling import GenerationSettings, uniforms
from steering.model.models import LoadedModel

from .candidates import Asked, Candidate, own_seed
from .decoder import Fields

ROUNDING = 1e-5
"""Nats by which sums of the same log-probabilities, read in other batches, may differ."""


class PowerSampling(Fields):
    """`exponent` a, `block` tokens per block, `steps` proposals after each."""

    exponent: float = Field(default=4.0, ge=1)
    block: int = Field(default=32, ge=1)
    steps: int = Field(default=4, ge=1)

    def candidates(
        self, model: LoadedModel, asked: Sequence[Asked], settings: GenerationSettings, batch_size: int
    ) -> list[list[Candidate]]:
        chains = sampled(model, asked, self, settings, batch_size)
        return [
            [
                Candidate(
                    chain.text,
                    one.answered(chain.text),
                    chain.moved / chain.proposed if chain.proposed else None,
                    chain.spent,
                )
            ]
            for one, chain in zip(asked, chains, strict=True)
        ]

    def choose(self, candidates: Sequence[Candidate], asked: Asked) -> tuple[int, list[float | None]]:
        return 0, [candidates[0].score]


@dataclass
class Chain:
    """One text on its way."""

    text: Generation
    spent: int
    proposed: int = 0
    taken: int = 0
    moved: int = 0
    """Proposals that were taken and are another text: at a high exponent most are the old text again."""


def sampled(
    model: LoadedModel, asked: Sequence[Asked], spec: PowerSampling, settings: GenerationSettings, batch_size: int
) -> list[Chain]:
    """One text per question, drawn from p^a truncated at the settings' number of tokens."""
    chains: list[Chain] = []
    most = settings.max_new_tokens
    for block, end in enumerate([*range(spec.block, most, spec.block), most]):
        grown = _grown(model, asked, chains, spec, end, block, batch_size)
        chains = grown
        for step in range(spec.steps):
            _step(model, asked, chains, spec, end, (block, step), batch_size)
    return chains


def _settings(spec: PowerSampling, end: int) -> GenerationSettings:
    return GenerationSettings(end, temperature=1 / spec.exponent)


def _grown(
    model: LoadedModel,
    asked: Sequence[Asked],
    chains: list[Chain],
    spec: PowerSampling,
    end: int,
    block: int,
    batch: int,
) -> list[Chain]:
    """Every text longer by one block; those that have ended stay as they are."""
    if not chains:
        rows = [Row(one.prompt_ids, one.plan, own_seed(one.seed, block)) for one in asked]
        return [Chain(g, len(g.token_ids)) for g in generate(model, rows, _settings(spec, end), batch_size=batch)]
    going = [n for n, chain in enumerate(chains) if chain.text.finish != "eos"]
    rows = [
        Row(asked[n].prompt_ids, asked[n].plan, own_seed(asked[n].seed, block), begun=chains[n].text.token_ids)
        for n in going
    ]
    for n, text in zip(
        going, generate(model, rows, _settings(spec, end), batch_size=batch) if rows else [], strict=True
    ):
        chains[n].spent += len(text.token_ids) - len(chains[n].text.token_ids)
        chains[n].text = _numbered(text, chains[n].text)
    return chains


def _step(
    model: LoadedModel,
    asked: Sequence[Asked],
    chains: list[Chain],
    spec: PowerSampling,
    end: int,
    place: tuple[int, int],
    batch: int,
) -> None:
    """One proposal for every text."""
    seeds = [own_seed(one.seed, *place, 1) for one in asked]
    cuts = np.floor(uniforms(np.array(seeds), 0) * end).astype(int)
    lots = uniforms(np.array(seeds), 1)
    going = [n for n, chain in enumerate(chains) if cuts[n] < len(chain.text.token_ids)]
    rows = [Row(asked[n].prompt_ids, asked[n].plan, seeds[n], begun=chains[n].text.token_ids[: cuts[n]]) for n in going]
    if not rows:
        return
    new = generate(model, rows, _settings(spec, end), batch_size=batch)
    texts = [Row(r.prompt_ids, r.plan, begun=g.token_ids) for r, g in zip(rows, new, strict=True)]
    old = [Row(asked[n].prompt_ids, asked[n].plan, begun=chains[n].text.token_ids) for n in going]
    read = sharpened_logprobs(model, [*texts, *old], spec.exponent)
    for k, n in enumerate(going):
        chain, cut = chains[n], int(cuts[n])
        (p_new, r_new), (p_old, r_old) = (
            tuple(sum(numbers[cut:]) for numbers in read[at]) for at in (k, len(going) + k)
        )
        log_a = spec.exponent * (p_new - p_old) + r_old - r_new
        chain.spent += len(new[k].token_ids) - cut
        chain.proposed += 1
        if math.log(max(float(lots[n]), 1e-300)) < log_a + ROUNDING:
            chain.taken += 1
            chain.moved += new[k].token_ids != chain.text.token_ids
            chain.text = _numbered(new[k], chain.text)


def _numbered(longer: Generation, before: Generation) -> Generation:
    """A text with the numbers of the one before it where both begin alike."""
    from .paths import with_numbers

    return with_numbers(longer, before)
