"""What a repository of a vector holds: five files, and what stands in `config.json` and `evidence.json`.

1. `config.json` names the format and its version, and says all that a reader needs to refuse a wrong file: site, width, digest, sha256.
2. The base model is named with its commit; where that is not known it is `unknown`, in so many letters.
3. `evidence.json` is always there. Without effects it says that nothing is shown, and a later push replaces what an earlier one held.
4. Shares lie in [0, 1], intervals are of the level that is written beside them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ...errors import BadInput
from .names import could_be_repository

CONFIG, VECTOR, PLAN, EVIDENCE, CARD = "config.json", "vector.safetensors", "plan.yaml", "evidence.json", "README.md"
FILES = (CONFIG, VECTOR, PLAN, EVIDENCE, CARD)
FORMAT = "steering-workbench/hub"
VERSION = 1
UNKNOWN = "unknown"
TAG = "steering-vector"
LIBRARY = "steering-workbench"
LAYERS = "blocks.<layer> is the 0-based decoder layer; hook_resid_pre is its input, hook_resid_post its output (TransformerLens names)"
UNIT = "vector: an amount of 1 adds the stored direction once, with the length that it has"

SLACK = 1e-9
"""By how much rounding may put an estimate outside of its interval."""
_PAPER = re.compile(r"\d{4}\.\d{4,5}(v\d+)?")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*")


class Frozen(BaseModel):
    """A part of a file: what it does not name is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BaseModelFacts(Frozen):
    """Whose activations the direction lies in."""

    id: str
    """As the vector names it; `unknown` where it does not."""
    repository: str = ""
    """Of the hub, where its weights come from and `id` is another name for them, such as a quantised file's."""
    commit: str = UNKNOWN
    """Commit of the model's repository, 40 hexadecimal digits, or `unknown`."""
    fingerprint: str = UNKNOWN
    """Hash of the weights in memory (`LoadedModel.fingerprint`)."""
    tokenizer: str = UNKNOWN
    """Hash of vocabulary, special tokens and chat template (`LoadedModel.tokenizer_fingerprint`)."""

    @property
    def elsewhere(self) -> str:
        """Its name for other programs, and for the hub's search; empty where it has none."""
        return self.repository or (self.id if could_be_repository(self.id) else "")


class DoseFacts(Frozen):
    """In what the plan's amounts are counted, and which amounts are of use."""

    unit: str = UNIT
    useful: tuple[float, float] | None = None
    """Smallest and largest amount that did something worth having; None where nobody says."""


class VectorFile(Frozen):
    """What `vector.safetensors` must be."""

    name: str = VECTOR
    digest: str = Field(pattern=r"[0-9a-f]{16}")
    """Hash of direction and site, by which plans name the vector."""
    sha256: str = Field(pattern=r"[0-9a-f]{64}")
    size: int = Field(ge=1)
    """Bytes."""


class Config(Frozen):
    """`config.json`."""

    format: str = FORMAT
    version: int = VERSION
    name: str
    site: str
    layers: str = LAYERS
    width: int = Field(ge=1)
    """Numbers in the direction."""
    norm: float
    """Euclidean length, in units of the activations."""
    base_model: BaseModelFacts
    method: str
    contrast: str = ""
    counts: tuple[int, ...] = ()
    """Samples averaged on each side."""
    dose: DoseFacts = DoseFacts()
    licence: str = ""
    arxiv: tuple[str, ...] = ()
    file: VectorFile


class Difference(Frozen):
    """A paired difference of shares, with its interval."""

    value: float = Field(ge=-1, le=1)
    low: float = Field(ge=-1, le=1)
    high: float = Field(ge=-1, le=1)
    p: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low - SLACK <= self.value <= self.high + SLACK:
            raise ValueError(
                f"low, value and high must come in this order, not {self.low:g}, {self.value:g} and {self.high:g}"
            )
        return self


class RandomControls(Frozen):
    """The distribution of an arm's random controls."""

    kind: str
    """`random directions`, for example."""
    count: int = Field(ge=1)
    as_good: int = Field(ge=0)
    """Controls that do at least as well."""
    rank_p: float = Field(gt=0, le=1)
    """One-sided: (1 + as good)/(1 + count)."""
    matched: bool | None = None
    """Whether their edits are of the arm's measured size; None where that is not known."""
    difference: Difference | None = None
    """The arm minus the mean of the controls, with its interval over questions and controls."""
    few: bool | None = None
    """Whether they are too few for that interval to be relied on; None where that is not known."""

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> Self:
        if self.as_good > self.count:
            raise ValueError(f"{self.as_good} of {self.count} controls cannot be as good")
        return self


class WrongSign(Frozen):
    """The arm that subtracts what this one adds."""

    arm: str
    n: int = Field(ge=1)
    difference: Difference | None = None


class Effect(Frozen):
    """What one arm of a run that used the vector did on one split."""

    run: str = ""
    split: str
    arm: str
    role: str = "steered"
    plan: str = ""
    """What was done, in a line."""
    model: str = ""
    task: str = ""
    """The questions, and what is held against the answers where that is to be chosen."""
    new_tokens: int | None = None
    """At most, per text."""
    n: int = Field(ge=1)
    """Rows."""
    level: float = Field(default=0.95, gt=0, lt=1)
    """Of every interval; 0.95 is 95 %."""
    accuracy: float
    low: float
    high: float
    baseline: float | None = Field(default=None, ge=0, le=1)
    """Accuracy of the baseline."""
    difference: Difference | None = None
    """Arm minus baseline, paired by question."""
    controls: RandomControls | None = None
    wrong_sign: WrongSign | None = None
    tokens: float | None = Field(default=None, ge=0)
    """Mean generated tokens per row."""
    token_difference: float | None = None
    """Against the baseline, mean per row."""
    truncated: int | None = Field(default=None, ge=0)
    unscorable: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _no_more_than_rows(self) -> Self:
        if more := [name for name in ("truncated", "unscorable") if (getattr(self, name) or 0) > self.n]:
            raise ValueError(f"{more[0]} is {getattr(self, more[0])}, of {self.n} rows")
        return self


class Evidence(Frozen):
    """`evidence.json`: what is known of what the vector does. It is as its author gives it; nobody checks it."""

    vector: str = ""
    """Digest of the vector that it is of."""
    effects: tuple[Effect, ...] = ()
    word_audit: tuple[str, ...] = ()
    """Whether the vector is more than a word, in sentences."""
    side_effects: tuple[str, ...] = ()
    """What else changes, in sentences."""
    quality: tuple[str, ...] = ()
    """How well the direction is determined by what it was made from, in sentences."""
    remarks: tuple[str, ...] = ()
    """What is to be known before the numbers are read, in sentences."""

    @field_validator("effects")
    @classmethod
    def _in_range(cls, effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
        for effect in effects:
            if not 0 <= effect.low <= effect.accuracy <= effect.high <= 1:
                raise ValueError(
                    f"arm {effect.arm!r}: low, accuracy and high must lie in [0, 1] in this order, not "
                    f"{effect.low:g}, {effect.accuracy:g} and {effect.high:g}"
                )
        return effects

    @property
    def empty(self) -> bool:
        """Whether nothing is shown."""
        return not (self.effects or self.word_audit or self.side_effects)


def to_bytes(part: BaseModel) -> bytes:
    """A part as a file: sorted keys, so that equal parts are equal bytes."""
    return (json.dumps(part.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def checked_licence(text: str) -> str:
    """An identifier of a licence, or nothing. Raises BadInput."""
    if text and not _LICENCE.fullmatch(text):
        raise BadInput(
            f"{text!r} is not an identifier of a licence: write it as the hub does, such as mit, apache-2.0 or other."
        )
    return text


def checked_papers(ids: Sequence[str]) -> tuple[str, ...]:
    """arXiv ids. Raises BadInput."""
    for paper in ids:
        if not _PAPER.fullmatch(paper):
            raise BadInput(f"{paper!r} is not an arXiv id: write it as 2506.18167.")
    return tuple(ids)


def read_config(data: bytes, where: str) -> Config:
    """`config.json` from its bytes. Raises BadInput, which begins with `where`, for another format, another version, or what is missing."""
    facts = read_json(data, where)
    if facts.get("format") != FORMAT:
        raise BadInput(
            f"{where} is not that of a steering vector: its format is {facts.get('format')!r}, not {FORMAT!r}. Name a repository that "
            "`steer vectors push` wrote (`steer vectors search` lists some)."
        )
    if facts.get("version") != VERSION:
        raise BadInput(
            f"{where} is of version {facts.get('version')!r} of the format; this program reads version {VERSION}. Update the program, or "
            "name a revision of the repository that holds that version."
        )
    config = parsed(Config, facts, where)
    if config.file.name != VECTOR:
        raise BadInput(
            f"{where} names the file {config.file.name!r}; a repository's vector is {VECTOR}. Ask its author to push it again."
        )
    return config


def read_evidence(data: bytes, where: str, digest: str | None = None) -> Evidence:
    """`evidence.json` from its bytes. Raises BadInput for what is no evidence, or is that of another vector than `digest`."""
    evidence = parsed(Evidence, read_json(data, where), where)
    if digest is not None and evidence.vector not in ("", digest):
        raise BadInput(f"{where} is evidence of {evidence.vector}, not of {digest}: give that of this one, or none.")
    return evidence


def digest_in(data: bytes) -> str:
    """The digest of the vector, plan or probe that a `config.json` is of; `unknown` where it says none."""
    try:
        facts = read_json(data, CONFIG)
    except BadInput:
        return UNKNOWN
    own = facts["file"] if isinstance(facts.get("file"), dict) else facts
    return str(own.get("digest") or UNKNOWN)


def effects_in(data: bytes) -> int:
    """How many measured effects an `evidence.json` holds; 0 where it cannot be read."""
    try:
        return len(parsed(Evidence, read_json(data, EVIDENCE), EVIDENCE).effects)
    except BadInput:
        return 0


def read_json(data: bytes, where: str) -> dict[str, Any]:
    """A JSON object. Raises BadInput."""
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{where} is not JSON ({error}); it is cut short, or another file. Mend it; where it lies in the hub's cache, delete it and "
            "pull again."
        ) from error
    if not isinstance(facts, dict):
        raise BadInput(f"{where} holds a {type(facts).__name__}; a JSON object is needed.")
    return facts


_Part = TypeVar("_Part", bound=BaseModel)


def parsed(kind: type[_Part], facts: dict[str, Any], where: str) -> _Part:
    """A part from its JSON. Raises BadInput, which names the first field that is not as it must be."""
    try:
        return kind.model_validate(facts)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise BadInput(f"{where}: {place}: {first['msg']}. docs/hub.md says what it holds.") from error
