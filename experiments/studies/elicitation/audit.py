"""Is this vector just a word? A vector beside biases on its words, directions of its words, itself without them, and its first word.

1. All arms act at the positions that the plan covers, on the same questions. A bias is as strong as the vector: its nats are found on
   development questions, where the mean divergence from the unsteered model at these positions is the vector's; both divergences are
   reported on the questions that are graded.
2. Words are read by the logit lens and by a Jacobian lens (`audit_arms`), and the verdict is that of `audit_verdict`.
3. Beside the vector stand R random directions of its length. Two planted vectors, one that is a token's row and one that is read least of
   all, show what the audit says where the answer is known.
"""

from __future__ import annotations

from typing import Any

import torch

from steering.errors import BadInput
from steering.extraction.jacobian import LONGEST, JacobianLens
from steering.plan.plan import Span
from steering.vector.vectors import UNKNOWN, random_like

from ...progress import progress
from .. import demo
from ..lenses import LensTexts, fitted_lenses, lens_texts
from .asked import Setting
from .audit_arms import COUNTS, in_place, opening_of, without, words_of
from .audit_options import DEMO_LATENT, QUICK, AuditOptions, development, refuse
from .audit_strength import Read, first_written, matched_nats, notes_of, read_of, together
from .audit_subjects import Subject, first_word, given, is_demo, latents_of, planted
from .audit_verdict import corrects, sentences, verdict_table
from .card import Card
from .findings import Point, Table
from .points import points_of
from .workroom import Workroom


def run(room: Workroom, options: AuditOptions) -> tuple[list[Point], list[Table], list[str]]:
    points: list[Point] = []
    tables, said = [], []
    asked = room.asked
    known = [*given(room, options), *latents_of(room, options, None)]
    asking: list[tuple[Setting, list[Subject]]] = []
    for number, setting in enumerate(asked.settings):
        subjects = list(known)
        if options.planted and (number == 0 or not known):
            subjects += planted(room.base, first_word(room, setting, options), Span.parse(options.span))
        asking.append((setting, subjects))
    if is_demo(room, options):
        quick = asked.settings[0].model_copy(update={"name": "be-quick prompts", "form": QUICK})
        asking.append((quick, latents_of(room, options.model_copy(update=DEMO_LATENT), quick)))
    for setting, subjects in asking:
        for number, subject in enumerate(subjects):
            own, table, words = audited(room, setting, subject, options, number == 0)
            points += own
            tables.append(table)
            said += words
    if not known:
        said.append(
            f"{asked.settings[0].name}: no vector was named, so planted ones alone were audited; give --set files=[FILE]."
        )
    return points, tables, said


def _lens(room: Workroom, subject: Subject, read: Read, options: AuditOptions) -> tuple[JacobianLens | None, str]:
    """The Jacobian lens of the subject's site, and why there is none."""
    site = subject.vector.site
    if site.layer == room.base.n_layers - 1 and site.kind in ("resid_post", "mlp_out"):
        return None, (
            "No layer lies behind the site, so the logit lens is the Jacobian lens, and an edit can change the predictions made from the "
            "positions that it covers and no others."
        )
    builtin = room.asked.base in (demo.BASE, demo.THINKING)
    if builtin:
        texts = lens_texts(room.base, None, options.texts)
    else:
        own = read.texts[: options.texts]
        texts = LensTexts(
            tuple((*prompt, *tokens) for prompt, tokens in own),
            tuple(len(prompt) - 1 for prompt, _ in own),
            "steered texts",
        )
    longest = LONGEST if builtin else max(LONGEST, *map(len, texts.sequences))  # behind long prompts too
    try:
        with progress("fitting the Jacobian lens", room.console) as report:
            return fitted_lenses(room.base, texts, [site], longest=longest, on_progress=report).by_site[site], ""
    except BadInput as error:
        return None, f"No Jacobian lens: {error}"


def audited(
    room: Workroom, setting: Setting, subject: Subject, options: AuditOptions, first: bool
) -> tuple[list[Point], Table, list[str]]:
    split = development(room.asked, setting, options)
    plan = subject.own
    vectors: dict[str, Any] = dict(plan.vectors)
    own = room.arm(setting, subject.key, subject.label, plan=plan.to_dict())
    base = room.arm(setting, "base", "base, greedy", "baseline")
    dev = setting.model_copy(update={"split": split})
    tuned = room.evaluate("audit-match", dev, [base, own], options.n_dev, vectors, f"{subject.label}, development")
    read = read_of(room, subject, tuned, split, plan)
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
                nats[one.ids(count)] = matched_nats(together(room, read, one.ids(count)), strength)
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
    listed = [p for p in points_of(tested, setting, _beside(subject, about)) if "-random-" not in p.arm]
    points = [p for p in listed if first or p.arm != "base"]
    right = corrects(tested, setting.split)
    graded = read_of(room, subject, tested, setting.split, plan)
    writes = first_written(room, subject, tested, setting.split)
    notes = notes_of(room, subject, read, graded, nats, matched, about)
    if why:
        notes.append(why)
    said = sentences(setting, subject, right, about)
    origin = subject.vector.provenance
    if origin.model not in (UNKNOWN, room.base.fingerprint):
        said.append(
            f"{setting.name}: {subject.label} was extracted from {origin.model_id or origin.model}, another model."
        )
    return points, verdict_table(setting, subject, listed, about, right, writes, [*notes, *lost]), said


def _beside(subject: Subject, about: dict[str, str]) -> dict[str, str]:
    """The vector's control: the first bias on its words."""
    biases = [name for name in about if name.startswith(f"{subject.key}-bias-")]
    return {subject.key: biases[0]} if biases else {}


CARD = Card(
    name="audit",
    title="Is this vector just a word?",
    systems=("S24",),
    papers=("2509.06608", "2605.06241", "2605.16874"),
    measures="share of a vector's effect that a bias on its words has at equal divergence, and what the vector keeps without them",
    control="random directions of equal norm; a planted word and a planted direction that is not read",
    quick=AuditOptions(n=60),
    full=AuditOptions(n=200, n_dev=200, n_choice=48, texts=96),
    run=run,
    refuse=refuse,
)
