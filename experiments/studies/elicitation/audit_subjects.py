"""What is audited: vectors of files, the demo's vector, latents, and vectors whose answers are known."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from steering.engine.edit_size import edit_size
from steering.errors import BadInput
from steering.extraction.lens import lens_rows
from steering.model.models import LoadedModel
from steering.model.sites import Site
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import Provenance, SteeringVector

from ...tasks.task import asked_ids
from .. import demo
from ..ablation import edit_plan
from .asked import Setting
from .audit_options import AuditOptions, GivenVectors, development
from .workroom import Workroom


@dataclass(frozen=True)
class Subject:
    """A vector that is audited, with how it is applied."""

    key: str
    label: str
    vector: SteeringVector
    dose: Dose
    span: Span
    expected: str = ""
    """`word` or `no word`, of a vector that was planted to be just that."""
    digest: str = ""
    """Of the vector's file."""
    edit: Plan | None = None
    """What is audited, where it is no addition of the vector: of a latent its edit, whose measured size `dose` is then."""

    @property
    def own(self) -> Plan:
        """The plan that is audited."""
        return self.edit or Plan((Intervention("add", self.vector, self.span, self.dose),))

    def plan(self, direction: Tensor, name: str) -> Plan:
        """Another direction in the vector's place."""
        origin = self.vector.provenance
        made = Provenance("audit", origin.model, origin.model_id, contrast=name, parents=(self.vector.digest,))
        vector = SteeringVector(name, self.vector.site, direction, made)
        return Plan((Intervention("add", vector, self.span, self.dose),))

    @property
    def pushed(self) -> Tensor:
        """The direction that activations are moved along `[d_model]`."""
        return self.vector.direction * (-1.0 if self.dose.amount < 0 else 1.0)


def is_demo(room: Workroom, options: GivenVectors) -> bool:
    """Whether the demo's own vector and latent are asked for."""
    return (
        not options.files
        and room.asked.builtin
        and (room.asked.base, room.asked.thinking) == (demo.BASE, demo.THINKING)
    )


def given(room: Workroom, options: GivenVectors) -> list[Subject]:
    """The vectors of the files, or the demo's."""
    span, found = Span.parse(options.span), []
    for number, path in enumerate(options.files):
        read = SteeringVector.load(path)
        vector = resited(read, options.site)
        vector.check(room.base)
        key = "vector" if len(options.files) == 1 else f"vector-{number + 1}"
        found.append(
            Subject(key, vector.name or Path(path).stem, vector, Dose.parse(options.dose), span, digest=read.digest)
        )
    if is_demo(room, options):
        models = room.pair
        choice = demo.choose(
            room.store, models, demo.candidate_vectors(models[demo.BASE], models[demo.THINKING]), options.n_choice, room.console
        )  # fmt: skip
        room.runs.append(choice.run)
        found.append(Subject("demo", "the demo's vector", choice.vector, Dose(choice.dose, "vector"), span))
    return found


def latents_of(room: Workroom, options: AuditOptions, setting: Setting | None) -> list[Subject]:
    """The latents that the options name, edited as in a setting (by default the first)."""
    if options.sae is None:
        return []
    return [_latent(room, options, latent, setting or room.asked.settings[0]) for latent in options.latents]


def _latent(room: Workroom, options: AuditOptions, number: int, setting: Setting) -> Subject:
    """A latent by its edit; its decoder's row, at the edit's measured size, is what else is compared."""
    from saes.loading import load_dictionary

    dictionary = load_dictionary(str(options.sae))
    name = f"latent {number} of {dictionary.name}"
    edit = edit_plan(dictionary.features((number,)), options.latent_edit, options.span)
    task = room.asked.found
    items = task.items(development(room.asked, setting, options), options.n_dev)
    size = edit_size(room.base, [asked_ids(task, room.base, item, setting.form) for item in items], edit)
    if not size:
        raise BadInput(f"{options.latent_edit} on {options.span} does not change {name} on these questions.")
    row = SteeringVector(name, dictionary.site, dictionary.decoder[number], dictionary.provenance)
    dose = Dose(round(size, 6), "residual")
    return Subject(f"latent-{number}", f"{name}, {options.latent_edit}", row, dose, Span.parse(options.span), edit=edit)


def first_word(room: Workroom, setting: Setting, options: AuditOptions) -> int:
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


def planted(model: LoadedModel, word: int, span: Span) -> list[Subject]:
    """Two vectors at the last layer whose answers are known: the row that a token is read by, and the direction that is read least of all
    (centred over the vocabulary, which no probability depends on)."""
    site, dose = Site(model.n_layers - 1), Dose(1.0, "residual")
    rows = lens_rows(model)
    rows = rows - rows.mean(0)
    lowest = torch.linalg.eigh(rows.T @ rows).eigenvectors[:, 0]
    text, origin = model.tokenizer.decode([word]).strip(), Provenance("audit", model.fingerprint, model.id)
    found = (
        ("planted-word", f"planted: the row of {text!r}", lens_rows(model, [word])[0], "word"),
        ("planted-unread", "planted: the direction that is read least", lowest, "no word"),
    )
    return [
        Subject(key, label, SteeringVector(label, site, direction.float(), origin), dose, span, expected)
        for key, label, direction, expected in found
    ]


def resited(vector: SteeringVector, site: str | None) -> SteeringVector:
    """The vector at another site."""
    return vector if site is None else replace(vector, site=Site.parse(site))
