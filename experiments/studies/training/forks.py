"""Training on forks only (S8): do the few tokens where the model hesitates carry what reward training teaches?

1. Reward training with the policy's loss over all tokens, over those of highest entropy in the batch, over the rest, and over as many drawn
   ones, by share of the tokens (2506.01939; TRL's mask, whose divisor counts all tokens; Adam's steps do not see a constant factor).
2. Without reward learning: right texts of the base against wrong ones at its own forks, an anchor elsewhere (2605.06241), beside as many
   drawn tokens.
3. On the built-in task a fork is known: recall and precision of the choice by entropy are against tokens that open a behaviour.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
from pydantic import Field

from steering.engine.generation import Generation, Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput, unknown
from steering.model.deltas import keep_delta

from ...pair.verifier import verify
from ...progress import progress
from ...store.files import write_whole
from ...tasks.items import Item
from ...tasks.task import asked_ids
from ..elicitation.asked import Elicit
from ..elicitation.card import Card
from ..elicitation.findings import Point, Table
from ..elicitation.workroom import Workroom
from .contrastive import Contrasting, chosen_tokens, pairs_of, train_contrastive
from .questions import graded, training_items
from .rewarded import Grown, RewardedOptions, graded_everywhere, refuse_rewarded, unlearned
from .rewards import Reward
from .side_by_side import trainings
from .trained import FOLDER
from .trained_models import Job, TrainedModel, read_trained

MASKS = {"top": "tokens of highest entropy", "rest": "the other tokens", "random": "as many drawn tokens"}
FULL = "all tokens"
CONTRASTS = {"top": "right against wrong, at the base's forks", "random": "right against wrong, at drawn tokens"}
MARKS = frozenset({"try", "wait", "check", "hmm", "yes", "no", "enough", "first", "let", "answer"})
"""Words of the built-in task that open a behaviour, or decide how it goes on."""


class ForksOptions(RewardedOptions):
    shares: tuple[float, ...] = Field(default=(0.2,), min_length=1)
    """Of the tokens that are trained on."""
    masks: tuple[str, ...] = Field(default=tuple(MASKS), min_length=1)
    """Which tokens are learned: those of highest entropy, the others, as many drawn ones."""
    contrasts: tuple[str, ...] = tuple(CONTRASTS)
    """Arms without reward learning."""
    asked: int = Field(default=64, ge=2)
    """Training questions that the base's texts of these arms answer."""
    texts: int = Field(default=16, ge=2)
    """Per question."""
    steps: int = Field(default=20, ge=1)
    """Gradient steps of these arms."""


def run(room: Workroom, options: ForksOptions) -> tuple[list[Point], list[Table], list[str]]:
    first = room.asked.settings[0]
    items = training_items(room.asked, options.read, options.pool, "forks")
    arms = [("all", FULL, "steered", options.recipe(seed)) for seed in options.seeds]
    against: list[tuple[str, str]] = []
    for share in options.shares:
        for mask in options.masks:
            label = f"{MASKS[mask]}, {100 * (1 - share if mask == 'rest' else share):g} %"
            role = "steered" if mask == "top" else "control"
            group = f"{mask}-{100 * share:g}"
            arms += [(group, label, role, options.recipe(seed, mask=mask, share=share)) for seed in options.seeds]
        others = (f"random-{100 * share:g}", f"rest-{100 * share:g}", "all")
        against += [(f"top-{100 * share:g}", other) for other in others]
    asked = tuple(items)
    jobs = [Job(asked, first.form, Reward(), recipe, f"{label}, seed {recipe.seed}") for _, label, _, recipe in arms]
    grown = [
        Grown(group, label, recipe.seed, own, role)
        for (group, label, role, recipe), own in zip(arms, trainings(room, jobs), strict=True)
    ]
    said: list[str] = []
    if options.contrasts:
        contrasted, words = _contrasts(room, items, options)
        grown += contrasted
        said += words
        against += [(f"contrast-top-{100 * s:g}", f"contrast-random-{100 * s:g}") for s in options.shares]
    points, tables, told, _ = graded_everywhere(room, "forks", grown, options, against)
    return points, tables, said + told + unlearned([one for one in grown if "contrast" not in one.group], first)


def _contrasts(room: Workroom, items: list[Item], options: ForksOptions) -> tuple[list[Grown], list[str]]:
    """The arms without reward learning; sampled once, their texts are those of every arm and seed."""
    base, task, form, first = room.base, room.asked.found, room.asked.settings[0].form, room.asked.settings[0]
    own = items[: options.asked]
    rows = [
        Row(tuple(asked_ids(task, base, item, form)), seed=1 + number * 10**3 + place)
        for number, item in enumerate(own)
        for place in range(options.texts)
    ]
    texts = generate(base, rows, GenerationSettings(options.tokens, temperature=1.0), batch_size=256, detail="tokens")
    grade = graded(base, task, own, form)
    verdicts: list[list[bool | None]] = []
    for number in range(len(own)):
        found = [grade(number, text) for text in texts[number * options.texts : (number + 1) * options.texts]]
        verdicts.append([None if one is None else one.correct for one in found])
    grown: list[Grown] = []
    said: list[str] = []
    for share in options.shares:
        for where in options.contrasts:
            label = f"{CONTRASTS[where]}, {100 * share:g} %"
            for seed in options.seeds:
                spec = Contrasting(steps=options.steps, share=share, where=where, seed=seed)  # type: ignore[arg-type]
                pairs = [
                    (question * options.texts + right, question * options.texts + wrong)
                    for question, right, wrong in pairs_of(verdicts, spec)
                ]
                if not pairs:
                    raise BadInput(
                        f"card forks: none of {len(own)} training questions has right and wrong texts of the base; give more texts, or "
                        f"--set 'contrasts=[]'."
                    )
                trained = _contrasted(room, texts, pairs, spec, f"{label}, seed {seed}")
                role = "steered" if where == "top" else "control"
                grown.append(Grown(f"contrast-{where}-{100 * share:g}", label, seed, trained, role))
        said += [f"{first.name}: {line}" for line in _forks_said(room, own, texts, share, options)]
    return grown, said


def _contrasted(
    room: Workroom, texts: list[Generation], pairs: list[tuple[int, int]], spec: Contrasting, label: str
) -> TrainedModel:
    """Trained, or read where it was before."""
    base = room.base
    facts = [base.fingerprint, [[t.prompt_ids, t.token_ids] for t in texts], pairs, vars(spec)]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    path = room.folder / FOLDER / f"contrast-{digest}.json"
    found = read_trained(path)
    if found is None:
        with progress(f"training {label}", room.console) as report:
            weights, curve = train_contrastive(base, texts, pairs, spec, report)
        own = {name: value.detach() for name, value in base.model.named_parameters()}
        sampled = sum(len(text.token_ids) for text in texts)
        rows = [
            {"generated": 0 if step else sampled, "trained": row.pop("tokens"), **row} for step, row in enumerate(curve)
        ]
        found = {"models": {str(spec.steps): keep_delta(base.id, own, weights)}, "curve": rows}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps(found, indent=1, sort_keys=True) + "\n").encode())
    parameters = sum(value.numel() for value in base.model.parameters())
    return TrainedModel(label, {int(n): m for n, m in found["models"].items()}, tuple(found["curve"]), parameters)


def _forks_said(
    room: Workroom, items: list[Item], texts: list[Generation], share: float, options: ForksOptions
) -> list[str]:
    """The entropy from which a token is a fork; on the built-in task how many of them open a behaviour."""
    chosen, _, least = chosen_tokens(room.base, texts, Contrasting(share=share))
    count = sum(len(own) for own in chosen)
    said = [f"{100 * share:g} % of {count} tokens of the base's texts have an entropy of at least {least:.3g} nats."]
    if room.asked.builtin:
        known: list[bool] = []
        for number, text in enumerate(texts):
            words = room.base.tokenizer.convert_ids_to_tokens(list(text.token_ids))
            formed = verify(
                items[number // options.texts].data, [w for w in words if not w.startswith("<")]
            ).well_formed
            known += [formed and word in MARKS for word in words]
        mark, own = np.array(known), np.concatenate([one.numpy() for one in chosen])
        said.append(
            f"of these tokens {100 * mark[own].mean():.0f} % open a behaviour or decide it, of the others {100 * mark[~own].mean():.0f} %; "
            f"of the tokens that do, {100 * own[mark].mean():.0f} % are among them."
        )
    return said


def refuse(asked: Elicit, options: ForksOptions) -> None:
    for mask in options.masks:
        if mask not in MASKS:
            raise unknown("mask", mask, MASKS, where="card forks: masks")
    for one in options.contrasts:
        if one not in CONTRASTS:
            raise unknown("contrast", one, CONTRASTS, where="card forks: contrasts")
    if bad := [share for share in options.shares if not 0 < share < 1]:
        raise BadInput(
            f"card forks: shares has {bad[0]:g}; give shares of the tokens above 0 and below 1, such as 0.2."
        )
    refuse_rewarded(asked, options, "forks")


CARD = Card(
    name="forks",
    title="Training on forks only",
    systems=("S8",),
    papers=("2506.01939", "2605.06241"),
    measures="what training over the tokens of highest entropy gives, with reward and without, beside all tokens",
    control="the other tokens, as many drawn ones",
    quick=ForksOptions(n=200),
    full=ForksOptions(
        n=400, seeds=(0, 1, 2, 3, 4), updates=40, prompts=16, shares=(0.01, 0.03, 0.2), asked=200, steps=60
    ),
    run=run,
    refuse=refuse,
)
