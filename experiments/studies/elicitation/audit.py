"""Is this vector just a word? A vector beside biases on its words, directions of its words, itself without them, and its first word.

1. All arms act at the positions that the plan covers, on the same questions. A bias is as strong as the vector: its nats are found on
   development questions, where the mean divergence from the unsteered model at these positions is the vector's; both divergences are
   reported on the questions that are graded.
2. Words are read by the logit lens and by a Jacobian lens (`audit_arms`), and the verdict is that of `audit_verdict`.
3. Beside the vector stand R random directions of its length. Two planted vectors, one that is a token's row and one that is read least of
   all, show what the audit says where the answer is known.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, model_validator

from steering.compile.coverage import continued
from steering.engine.edit_size import edit_size
from steering.engine.forced import ForcedText, forced_divergence
from steering.engine.generation import Row
from steering.engine.predicted import logprobs_along
from steering.errors import BadInput
from steering.extraction.jacobian import JacobianLens
from steering.plan.plan import Dose, Plan, Span
from steering.vector.vectors import UNKNOWN, SteeringVector, random_like

from ...progress import progress
from ...statistics import Floats
from ...store.runs import Run
from ...tasks.task import asked_ids
from .. import demo
from ..ablation import edit_plan, parse_operation
from ..lenses import LensTexts, fitted_lenses, lens_texts
from .asked import Elicit, Setting
from .audit_arms import (
    COUNTS,
    Subject,
    bias_divergence,
    in_place,
    matched_nats,
    opening_of,
    planted,
    pooled,
    resited,
    without,
    words_of,
)  # fmt: skip
from .audit_verdict import corrects, sentences, verdict_table
from .card import Card, Options
from .findings import Point, Table
from .points import points_of
from .workroom import Workroom


class AuditOptions(Options):
    n_dev: int = Field(default=60, ge=2)
    """Development questions, on which biases are matched."""
    dev: str | None = None
    """The split of development questions; by default `dev`, or the one whose name has `dev` for `test`."""
    files: tuple[str, ...] = ()
    """Vector files; without them the vector of the demo, where the pair is the built-in one."""
    digests: tuple[str, ...] = ()
    """Of the vectors in the files; found out."""
    dose: str = "1v"
    span: str = "last_prompt"
    site: str | None = None
    """Of the files' vectors: another site than their own."""
    planted: bool = True
    """Audit vectors whose answers are known too."""
    sae: str | None = None
    """Audit latents of this autoencoder too, by their decoder rows."""
    latents: tuple[int, ...] = ()
    latent_edit: str = "raise 12f"
    """What is done to a latent."""
    directions: int = Field(default=20, ge=1)
    texts: int = Field(default=24, ge=2)
    """Texts that the Jacobian lens is fitted on."""
    n_choice: int = Field(default=24, ge=2)
    """Development questions on which the demo's layer and dose are chosen."""

    @model_validator(mode="before")
    @classmethod
    def _known_by_their_bytes(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("files"):
            data = data | {"digests": tuple(SteeringVector.load(path).digest for path in data["files"])}
        return data


def development(asked: Elicit, setting: Setting, options: AuditOptions) -> str:
    """The split of development questions. Raises BadInput where there is none beside the one that is graded."""
    known = asked.found.splits
    guesses = [options.dev] if options.dev else [setting.split.replace("test", "dev"), "dev", "validation", "train"]
    for name in guesses:
        if name in known and name != setting.split:
            return name
    raise BadInput(
        f"card audit: biases are matched on questions that are not graded, and task {asked.found.name} has no such split beside "
        f"{setting.split!r} ({', '.join(known)}); give --set dev=SPLIT."
    )


def refuse(asked: Elicit, options: AuditOptions) -> None:
    Span.parse(options.span)
    parse_operation(options.latent_edit)
    dose = Dose.parse(options.dose)
    if dose.unit not in ("vector", "raw", "residual") or dose.schedule.kind != "constant" or not dose.amount:
        raise BadInput(
            f"card audit: dose {options.dose}: a vector is added, by a constant amount such as 1v, 4 or 0.5r."
        )
    if (options.sae is None) != (not options.latents):
        raise BadInput("card audit: give sae and latents together: an autoencoder, and numbers of its latents.")
    for setting in asked.settings:
        asked.found.items(development(asked, setting, options), options.n_dev)
    if not options.files and not options.planted and not options.latents and not asked.builtin:
        raise BadInput("card audit: name a vector to audit: --set files=[think.safetensors], as `steer extract` makes.")


def run(room: Workroom, options: AuditOptions) -> tuple[list[Point], list[Table], list[str]]:
    points: list[Point] = []
    tables, said = [], []
    asked = room.asked
    known = _given(room, options)
    for setting in asked.settings:
        subjects = list(known)
        if options.planted:
            subjects += planted(room.base, _first_word(room, setting, options), Span.parse(options.span))
        for number, subject in enumerate(subjects):
            own, table, words = _audit(room, setting, subject, options, number == 0)
            points += own
            tables.append(table)
            said += words
    if not options.files and not asked.builtin:
        said.append(
            f"{asked.settings[0].name}: no vector was named, so only planted ones and latents were audited; give --set files=[FILE]."
        )
    return points, tables, said


def _given(room: Workroom, options: AuditOptions) -> list[Subject]:
    """The vectors of the files, the demo's vector, and the latents."""
    span, found = Span.parse(options.span), []
    for number, path in enumerate(options.files):
        read = SteeringVector.load(path)
        vector = resited(read, options.site)
        vector.check(room.base)
        key = "vector" if len(options.files) == 1 else f"vector-{number + 1}"
        found.append(
            Subject(key, vector.name or Path(path).stem, vector, Dose.parse(options.dose), span, digest=read.digest)
        )
    builtin = room.asked.builtin and (room.asked.base, room.asked.thinking) == (demo.BASE, demo.THINKING)
    if not options.files and builtin:
        models = room.pair
        choice = demo.choose(
            room.store, models, demo.candidate_vectors(models[demo.BASE], models[demo.THINKING]), options.n_choice, room.console
        )  # fmt: skip
        room.runs.append(choice.run)
        found.append(Subject("demo", "the demo's vector", choice.vector, Dose(choice.dose, "vector"), span))
    if options.sae is not None:
        found += [_latent(room, options, latent) for latent in options.latents]
    return found


def _latent(room: Workroom, options: AuditOptions, number: int) -> Subject:
    """A latent by its edit; its decoder's row, at the edit's measured size, is what else is compared."""
    from saes.loading import load_dictionary

    dictionary = load_dictionary(str(options.sae))
    if not 0 <= number < dictionary.latents:
        raise BadInput(f"{options.sae} has latents 0 to {dictionary.latents - 1}; {number} is none of them.")
    name = f"latent {number} of {dictionary.name}"
    edit = edit_plan(dictionary.features((number,)), options.latent_edit, options.span)
    setting, task = room.asked.settings[0], room.asked.found
    items = task.items(development(room.asked, setting, options), options.n_dev)
    size = edit_size(room.base, [asked_ids(task, room.base, item, setting.form) for item in items], edit)
    if not size:
        raise BadInput(f"{options.latent_edit} on {options.span} does not change {name} on these questions.")
    row = SteeringVector(name, dictionary.site, dictionary.decoder[number], dictionary.provenance)
    dose = Dose(round(size, 6), "residual")
    return Subject(f"latent-{number}", f"{name}, {options.latent_edit}", row, dose, Span.parse(options.span), edit=edit)


def _first_word(room: Workroom, setting: Setting, options: AuditOptions) -> int:
    """The token that texts begin with most often when the model is asked to think first."""
    split = development(room.asked, setting, options)
    other = setting.model_copy(update={"split": split})
    arms = [
        room.arm(other, "base", "base, greedy", "baseline"),
        room.arm(other, "prompt", "base, asked to think first", "prompt", form=room.asked.think),
    ]
    found = room.evaluate("audit-first", other, arms, options.n_dev, what="first words")
    rows = found.table(columns=["arm", "token_ids"], arms=["prompt"]).to_pylist()
    ends = room.base.eos_ids
    counts = Counter(row["token_ids"][0] for row in rows if row["token_ids"] and row["token_ids"][0] not in ends)
    return min(counts, key=lambda token: (-counts[token], token)) if counts else 0


@dataclass(frozen=True)
class _Read:
    """A vector's texts, and how far the plan moves the predictions along them, in nats."""

    texts: list[tuple[tuple[int, ...], tuple[int, ...]]]
    covered: list[list[int]]
    """Predictions that the span covers, by number of the generated token."""
    inside: Floats = field(default_factory=lambda: np.zeros(0))
    behind: Floats = field(default_factory=lambda: np.zeros(0))
    """Of predictions after the first covered one that are not covered."""


def _read(room: Workroom, subject: Subject, found: Run, split: str, plan: Plan) -> _Read:
    rows = found.table(columns=["split", "order", "prompt_ids", "token_ids", "finish"], arms=[subject.key]).to_pylist()
    rows = sorted(
        (row for row in rows if row["split"] == split and row["token_ids"] and row["finish"] != "nonfinite"),
        key=lambda row: row["order"],
    )
    texts = [(tuple(row["prompt_ids"]), tuple(row["token_ids"])) for row in rows]
    covered = []
    for prompt, tokens in texts:
        at = continued(room.base, subject.span, prompt, tokens[:-1])
        covered.append([place - len(prompt) + 1 for place in at if place >= len(prompt) - 1])
    divergences = [
        reading.divergence
        for reading in forced_divergence(room.base, [ForcedText(prompt, tokens, plan) for prompt, tokens in texts])
    ]
    return _Read(texts, covered, *pooled(divergences, covered))


def _together(room: Workroom, read: _Read, ids: tuple[int, ...]) -> Floats:
    """Log-probability of all ids together in the unsteered predictions that are covered."""
    rows = [Row(prompt, begun=tokens) for prompt, tokens in read.texts]
    along = [torch.logsumexp(own, -1).tolist() for own in logprobs_along(room.base, rows, ids)]
    return pooled(along, read.covered)[0]


def _lens(room: Workroom, subject: Subject, read: _Read, options: AuditOptions) -> tuple[JacobianLens | None, str]:
    """The Jacobian lens of the subject's site, and why there is none."""
    site = subject.vector.site
    if site.layer == room.base.n_layers - 1 and site.kind in ("resid_post", "mlp_out"):
        return None, (
            "No layer lies behind the site, so the logit lens is the Jacobian lens, and an edit can change the predictions made from the "
            "positions that it covers and no others."
        )
    try:
        if room.asked.base in (demo.BASE, demo.THINKING):
            texts = lens_texts(room.base, None, options.texts)
        else:
            own = read.texts[: options.texts]
            texts = LensTexts(
                tuple((*prompt, *tokens) for prompt, tokens in own), tuple(len(prompt) - 1 for prompt, _ in own), "steered texts"
            )  # fmt: skip
        with progress("fitting the Jacobian lens", room.console) as report:
            return fitted_lenses(room.base, texts, [site], on_progress=report).by_site[site], ""
    except BadInput as error:
        return None, f"No Jacobian lens: {error}"


def _audit(
    room: Workroom, setting: Setting, subject: Subject, options: AuditOptions, first: bool
) -> tuple[list[Point], Table, list[str]]:
    split = development(room.asked, setting, options)
    plan = subject.own
    vectors: dict[str, Any] = dict(plan.vectors)
    own = room.arm(setting, subject.key, subject.label, plan=plan.to_dict())
    base = room.arm(setting, "base", "base, greedy", "baseline")
    dev = setting.model_copy(update={"split": split})
    tuned = room.evaluate("audit-match", dev, [base, own], options.n_dev, vectors, f"{subject.label}, development")
    read = _read(room, subject, tuned, split, plan)
    if not len(read.inside):
        raise BadInput(
            f"card audit: span {subject.span} of {subject.label} covers no prediction of its texts; name another."
        )
    lens, why = _lens(room, subject, read, options)
    words = words_of(room.base, subject, lens)
    strength = float(read.inside.mean())
    nats, matched = {}, {}
    for one in words:
        for count in COUNTS:
            if one.ids(count) not in nats:
                nats[one.ids(count)] = matched_nats(_together(room, read, one.ids(count)), strength)
    about: dict[str, str] = {subject.key: f"(a) {subject.label}"}
    arms = [*(room.references(setting) if first else [base]), own]

    def add(name: str, what: str, **given: Any) -> None:
        about[f"{subject.key}-{name}"] = what
        arms.append(room.arm(setting, f"{subject.key}-{name}", what, "control", **given))

    def add_plan(name: str, what: str, direction: torch.Tensor) -> None:
        made = subject.plan(direction, f"{what} ({subject.vector.digest})")
        vectors.update(made.vectors)
        add(name, what, plan=made.to_dict())

    seen: dict[str, set[Any]] = {"bias": set(), "word": set()}
    for one in words:
        for count in COUNTS:
            ids = one.ids(count)
            if ids not in seen["bias"]:
                seen["bias"].add(ids)
                matched[f"{subject.key}-bias-{one.lens}-{count}"] = ids
                decoder = {"kind": "word-bias", "ids": list(ids), "nats": nats[ids][0], "span": str(subject.span)}
                add(
                    f"bias-{one.lens}-{count}",
                    f"(b) a bias on {one.named(count)}, {nats[ids][0]:.2f} nats",
                    decoder=decoder,
                )
    for one in words:
        for count in COUNTS:
            add_plan(
                f"lens-{one.lens}-{count}",
                f"(c) the direction of {one.named(count)}, {one.lens} lens",
                in_place(subject, one, count),
            )
    lost = []
    for one in words:
        for count in COUNTS:
            left = without(subject, one, count)
            if left is None:
                lost.append(
                    f"Without {one.named(count)} ({one.lens} lens) nothing of the vector is left, so there is no such arm."
                )
            else:
                add_plan(f"without-{one.lens}-{count}", f"(d) without {one.named(count)}, {one.lens} lens", left)
    for one in words:
        opening = opening_of(room.base, one)
        if opening is None:
            lost.append(
                f"The first token by the {one.lens} lens, {one.named(1)}, is no word that a text can begin with."
            )
        elif opening not in seen["word"]:
            seen["word"].add(opening)
            add(f"word-{one.lens}", f"(e) begun with {opening.strip()!r}", opening=opening)
    drawn = [random_like(subject.vector, seed) for seed in range(options.directions)]
    for seed, noise in enumerate(drawn):
        vectors[noise.digest] = noise
        given = subject.plan(noise.direction, noise.name)
        vectors.update(given.vectors)
        arms.append(
            room.arm(
                setting,
                f"{subject.key}-random-{seed}",
                f"{subject.label}, random direction {seed}",
                "control",
                plan=given.to_dict(),
            )
        )
    tested = room.evaluate("audit", setting, arms, options.n, vectors, subject.label)
    beside = _beside(subject, about)
    points = [p for p in points_of(tested, setting, beside) if "-random-" not in p.arm and (first or p.arm != "base")]
    right = corrects(tested, setting.split)
    graded = _read(room, subject, tested, setting.split, plan)
    notes = _notes(room, subject, read, graded, nats, matched, about)
    if why:
        notes.append(why)
    listed = [p for p in points_of(tested, setting) if "-random-" not in p.arm]
    said = sentences(setting, subject, right, about)
    origin = subject.vector.provenance
    if origin.model not in (UNKNOWN, room.base.fingerprint):
        said.append(
            f"{setting.name}: {subject.label} was extracted from {origin.model_id or origin.model}, another model."
        )
    return points, verdict_table(setting, subject, listed, about, right, [*notes, *lost]), said


def _beside(subject: Subject, about: dict[str, str]) -> dict[str, str]:
    """The vector's control: the first bias on its words."""
    biases = [name for name in about if name.startswith(f"{subject.key}-bias-")]
    return {subject.key: biases[0]} if biases else {}


def _notes(
    room: Workroom, subject: Subject, read: _Read, graded: _Read, nats: dict[Any, tuple[float, bool]], matched: dict[str, Any],
    about: dict[str, str],
) -> list[str]:  # fmt: skip
    """How strong vector and biases are, on development questions and on those graded."""
    if not len(graded.inside):
        return ["The span covers no prediction of the texts that are graded."]
    notes = [
        f"KL to the unsteered model at the {len(graded.inside)} covered predictions of the vector's texts: the vector "
        f"{graded.inside.mean():.3f} nats (development: {read.inside.mean():.3f})."
    ]
    for arm, ids in matched.items():
        strength, reached = nats[ids]
        here = float(bias_divergence(_together(room, graded, ids), strength).mean())
        there = float(bias_divergence(_together(room, read, ids), strength).mean())
        notes.append(
            f"{about[arm]}: KL {here:.3f} (development: {there:.3f})"
            + (
                "."
                if reached
                else "; no bias on these tokens is as strong as the vector, and this one writes them always."
            )
        )
    if len(graded.behind):
        notes.append(
            f"At the {len(graded.behind)} predictions behind, which no bias touches, the vector still moves the model by "
            f"{graded.behind.mean():.4f} nats on average."
        )
    return notes


CARD = Card(
    name="audit",
    title="Is this vector just a word?",
    systems=("S24",),
    papers=("2509.06608", "2605.06241", "2605.16874"),
    measures="share of a vector's effect that a bias on its words has at equal divergence, and what the vector keeps without them",
    control="random directions of equal norm; a planted word and a planted direction that is not read",
    quick=AuditOptions(n=60, sae="builtin:base", latents=(183,)),
    full=AuditOptions(n=200, n_dev=200, n_choice=48, texts=96, sae="builtin:base", latents=(183,)),
    run=run,
    refuse=refuse,
)
