"""Tiny pairs of models of one family that disagree, and a naive hybrid: one row, no cache, every reading a pass over the whole text."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from steering.compile.text import token_facts
from steering.engine.sampling import uniforms
from steering.hybrid import Controller, Readout, ShiftBank
from steering.hybrid.decisions import CATEGORY_STREAM
from steering.model.hooks import hooked
from steering.model.models import LoadedModel, wrap
from steering.model.sites import Site
from tests.tiny import CONFIGS, WIDTH, tiny, tokenizer

K, HIDDEN = 3, 8


@cache
def thinking(family: str) -> LoadedModel:
    """The tiny model of a family with its weights moved a little: it agrees with the base on some tokens only."""
    base, config = tiny(family), CONFIGS[family]()
    model = AutoModelForCausalLM.from_config(config).float()
    model.load_state_dict(base.model.state_dict())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.add_(0.1 * parameter.std() * torch.randn(parameter.shape, generator=generator))
    return wrap(model, tokenizer(), id=f"tiny-{family}-thinking")


def bank(k: int = K, seed: int = 0, size: float = 2.0, trunks: int = 1) -> ShiftBank:
    g = torch.Generator().manual_seed(seed)
    return ShiftBank(
        Site(1),
        size * torch.randn(k, WIDTH, generator=g),
        0.2 * torch.randn(trunks, HIDDEN, WIDTH, generator=g),
        torch.full((trunks, HIDDEN), 0.5),
        0.3 * torch.randn(k, HIDDEN, generator=g),
        torch.full((k,), 0.5),
    )


def readout(site: Site, n: int = K, seed: int = 3, unit: bool = True) -> Readout:
    g = torch.Generator().manual_seed(seed)
    return Readout(
        site,
        torch.randn(n, WIDTH, generator=g),
        0.1 * torch.randn(n, generator=g),
        0.1 * torch.randn(WIDTH, generator=g),
        unit,
    )


def rule(name: str) -> Controller:
    """One controller of each sort."""
    theirs, mine, trigger = readout(Site(2)), readout(Site(1), seed=4), readout(Site(1), 2, seed=5)
    rules = {
        "hybrid": lambda: Controller("disagreement", "thinking", bank=bank(), categories=theirs),
        "own trunks": lambda: Controller("disagreement", "thinking", bank=bank(trunks=K), categories=theirs),
        "no effect": lambda: Controller("disagreement", "thinking", bank=bank().without_effect(), categories=theirs),
        "random vectors": lambda: Controller(
            "disagreement", "thinking", bank=bank().with_random_vectors(0), categories=theirs
        ),
        "random category": lambda: Controller("disagreement", "random", bank=bank()),
        "random positions": lambda: Controller("anywhere", "thinking", bank=bank(), categories=theirs, share=0.3),
        "one vector": lambda: Controller("disagreement", "only", bank=bank(1)),
        "category of the base": lambda: Controller("disagreement", "base", bank=bank(), categories=mine),
        "substitute": lambda: Controller("disagreement", how="substitute", share=0.5),
        "bias": lambda: Controller(
            "disagreement", "thinking", "bias", bank(), theirs,
            bias=3 * torch.randn(K, 61, generator=torch.Generator().manual_seed(6)),
        ),
        "trigger": lambda: Controller("trigger", "base", bank=bank(), categories=mine, trigger=trigger, threshold=0.3),
        "trigger, kept": lambda: Controller(
            "trigger", "base", bank=bank(), categories=mine, trigger=trigger, threshold=0.3, revert=False
        ),
        "entropy": lambda: Controller("entropy", "base", bank=bank(), categories=mine, threshold=1.5),
        "entropy, kept": lambda: Controller(
            "entropy", "base", bank=bank(), categories=mine, threshold=1.5, revert=False
        ),
        "sentence starts": lambda: Controller("sentence_starts", "only", bank=bank(1)),
        "sentence starts, kept": lambda: Controller("sentence_starts", "only", bank=bank(1), revert=False),
    }  # fmt: skip
    return rules[name]()


NAMES = (
    "hybrid", "own trunks", "no effect", "random vectors", "random category", "random positions", "one vector", "category of the base",
    "substitute", "bias", "trigger", "trigger, kept", "entropy", "entropy, kept", "sentence starts", "sentence starts, kept",
)  # fmt: skip


def read(
    model: LoadedModel,
    ids: list[int],
    sites: list[Site],
    kept: dict[int, torch.Tensor],
    shift: torch.Tensor | None,
    site: Site,
):
    """Logits and unedited activations at the last token; `kept` shifts earlier positions, `shift` the last one, at `site`."""
    seen: dict[Site, torch.Tensor] = {}

    def edit_at(place: Site):
        def edit(hidden: torch.Tensor):
            hidden = hidden.clone()
            if place == site:
                for position, delta in kept.items():
                    hidden[0, position] += delta
            seen[place] = hidden[0, -1].clone()
            if place == site and shift is not None:
                hidden[0, -1] += shift
            return hidden

        return edit

    with torch.inference_mode(), hooked(model.layout, {s: edit_at(s) for s in sites}):
        logits = model.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
    return logits, seen


def naive(
    base: LoadedModel, think: LoadedModel | None, prompt: list[int], rule: Controller, new: int, seed: int = 0,
    thinking_prompt: list[int] | None = None,
) -> tuple[list[int], list[int]]:  # fmt: skip
    """Tokens, and the places of those that were gated."""
    sites, theirs = [Site(1)], [Site(2)]
    text, other = list(prompt), list(thinking_prompt or prompt)
    out: list[int] = []
    gated: list[int] = []
    kept: dict[int, torch.Tensor] = {}
    facts, starts = token_facts(base), True
    while len(out) < new:
        logits, mine = read(base, text, sites, kept, None, Site(1))
        token, thought, hidden = int(logits.argmax()), None, {}
        if think is not None:
            thoughts, hidden = read(think, other, theirs, {}, None, Site(2))
            thought = int(thoughts.argmax())
        drawn = float(uniforms(np.array([seed]), np.array([len(out)]))[0])
        entropy = float(torch.distributions.Categorical(logits=logits).entropy())
        if rule.when == "disagreement":
            opened = token != thought
        elif rule.when == "trigger":
            opened = float(rule.trigger.probability(mine[Site(1)])) > rule.threshold
        elif rule.when == "entropy":
            opened = entropy > rule.threshold
        else:
            opened = rule.when == "anywhere" or starts
        opened = opened and drawn < rule.share
        if opened:
            gated.append(len(out))
            if rule.how == "substitute":
                token = thought
            else:
                if rule.which == "only":
                    category = 0
                elif rule.which == "random":
                    category = int(uniforms(np.array([seed + CATEGORY_STREAM]), np.array([len(out)]))[0] * rule.bank.k)
                else:
                    source = hidden[Site(2)] if rule.which == "thinking" else mine[Site(1)]
                    category = int(rule.categories.categories(source[None])[0])
                if rule.how == "bias":
                    token = int((logits + rule.bias[category]).argmax())
                else:
                    shift = rule.bank.shift(mine[Site(1)][None], torch.tensor([category]))[0][0]
                    token = int(read(base, text, sites, kept, shift, Site(1))[0].argmax())
                    if not rule.revert:
                        kept[len(text) - 1] = shift
        text.append(token)
        other.append(token)
        out.append(token)
        starts = facts.ends_sentence(token)
        if token in base.eos_ids:
            break
    return out, gated
