"""What an audit is asked: which vectors, how they are applied, and on how many questions."""

from __future__ import annotations

from typing import Any, Protocol

from pydantic import Field, model_validator

from steering.errors import BadInput
from steering.model.sites import Site
from steering.plan.plan import Dose, Span
from steering.vector.vectors import SteeringVector

from .. import demo
from ..ablation import parse_operation
from .asked import Elicit, Setting
from .card import Options

QUICK = "quick"
"""The form of the built-in task in which the demo's latent was found to start reasoning."""
DEMO_LATENT = {"sae": "builtin:base", "latents": (183,), "latent_edit": "raise 12f"}


def _names(files: Any) -> bool:
    """Whether it is a list of names; what is not is refused by its type."""
    return isinstance(files, list | tuple) and bool(files) and all(isinstance(one, str) for one in files)


class GivenVectors(Options):
    """Options of a card that is given vectors in files."""

    files: tuple[str, ...] = ()
    """Vector files; without them the vector of the demo, where the pair is the built-in one, and of other pairs none."""
    digests: tuple[str, ...] = ()
    """Of the vectors in the files; found out."""
    dose: str = "1v"
    """As `steer generate` takes it: `1v` is once the vector, `0.5a` half the activation's size."""
    span: str = "last_prompt"
    """At which tokens the vector is added."""
    site: str | None = None
    """Of the files' vectors: another site than their own."""
    n_choice: int = Field(default=24, ge=2)
    """Development questions on which the demo's layer and dose are chosen."""

    @model_validator(mode="before")
    @classmethod
    def _known_by_their_bytes(cls, data: Any) -> Any:
        if isinstance(data, dict) and _names(data.get("files")):
            data = data | {"digests": tuple(SteeringVector.load(path).digest for path in data["files"])}
        return data

    @model_validator(mode="after")
    def _somewhere(self) -> GivenVectors:
        if self.site is not None and not self.files:
            raise ValueError(
                f"site {self.site} is where vectors of files are added; give files too, or leave site out."
            )
        if self.site is not None:
            Site.parse(self.site)
        return self

    @property
    def vector_files(self) -> tuple[str, ...]:
        return self.files

    @property
    def vector_site(self) -> str | None:
        return self.site


class AuditOptions(GivenVectors):
    n_dev: int = Field(default=60, ge=2)
    """Development questions, on which biases are matched."""
    dev: str | None = None
    """The split of development questions; by default `dev`, or the one whose name has `dev` for `test`."""
    planted: bool = True
    """Audit vectors whose answers are known too."""
    sae: str | None = None
    """Audit latents of this autoencoder too, by their decoder rows."""
    latents: tuple[int, ...] = ()
    """Latents of the autoencoder whose decoders are audited too."""
    latent_edit: str = "raise 12f"
    """What is done to a latent."""
    directions: int = Field(default=20, ge=1)
    """Random directions of equal size: the null."""
    texts: int = Field(default=24, ge=2)
    """Texts that the Jacobian lens is fitted on."""

    def added(self) -> list[tuple[str, SteeringVector]]:
        return [*super().added(), *((vector.name, vector) for vector in self.latent_vectors())]

    def latent_vectors(self) -> list[SteeringVector]:
        """The decoder rows of the latents that are named. Raises BadInput for a latent that the autoencoder does not have."""
        if self.sae is None:
            return []
        from saes.loading import load_dictionary

        known = load_dictionary(self.sae)
        for number in self.latents:
            if not 0 <= number < known.latents:
                raise BadInput(
                    f"card audit: latents: {self.sae} has latents 0 to {known.latents - 1}; {number} is none of them."
                )
        return [
            SteeringVector(f"latent {number} of {known.name}", known.site, known.decoder[number], known.provenance)
            for number in self.latents
        ]


class Developing(Protocol):
    """Options that name a split of development questions."""

    @property
    def dev(self) -> str | None: ...


def development(asked: Elicit, setting: Setting, options: Developing, card: str = "audit") -> str:
    """The split of development questions. Raises BadInput where there is none beside the one that is graded."""
    known = asked.found.splits
    if options.dev is not None and (options.dev not in known or options.dev == setting.split):
        what = "the split that is graded" if options.dev == setting.split else f"no split of task {asked.found.name}"
        others = [name for name in known if name != setting.split]
        raise BadInput(
            f"card {card}: dev is {options.dev!r}, {what}; name another one, whose questions are not graded: "
            f"{', '.join(others) or 'it has none'}."
        )
    guesses = [options.dev] if options.dev else [setting.split.replace("test", "dev"), "dev", "validation", "train"]
    for name in guesses:
        if name in known and name != setting.split:
            return name
    raise BadInput(
        f"card {card}: what is chosen is chosen on questions that are not graded, and task {asked.found.name} has no such split beside "
        f"{setting.split!r} ({', '.join(known)}); give --set dev=SPLIT."
    )


def check_edit(card: str, span: str, dose: str) -> None:
    """Raises BadInput, which names the card and the option, for a span or a dose at which no vector can be added."""
    try:
        refuse_edit(span, dose)
    except BadInput as error:
        raise BadInput(f"card {card}: {error}") from error


def refuse_edit(span: str, dose: str) -> None:
    """Raises BadInput, which names the option, for a span or a dose at which no vector can be added."""
    try:
        Span.parse(span)
    except BadInput as error:
        raise BadInput(f"span: {error}") from error
    try:
        read = Dose.parse(dose)
    except BadInput as error:
        raise BadInput(f"dose: {error}") from error
    if read.unit not in ("vector", "raw", "residual") or read.schedule.kind != "constant" or not read.amount:
        raise BadInput(f"dose {dose}: a vector is added, by a constant amount such as 1v, 4 or 0.5r.")


def refuse(asked: Elicit, options: AuditOptions) -> None:
    check_edit("audit", options.span, options.dose)
    try:
        parse_operation(options.latent_edit)
    except BadInput as error:
        raise BadInput(f"card audit: latent_edit: {error}") from error
    if (options.sae is None) != (not options.latents):
        raise BadInput("card audit: give sae and latents together: an autoencoder, and numbers of its latents.")
    for setting in asked.settings:
        asked.found.items(development(asked, setting, options), options.n_dev)
    if not options.files and not options.planted and not options.latents and (asked.base, asked.thinking) != (
        demo.BASE, demo.THINKING,
    ):  # fmt: skip
        raise BadInput("card audit: name a vector to audit: --set files=[think.safetensors], as `steer extract` makes.")
