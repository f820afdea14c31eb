"""What is asked of a live generation: one question, a model, edits, sampling. Plain data, read without a model library.

1. One object says everything: the evaluation spec that runs, the one-line plan, the command line, the YAML file and the Python code are
   written from it, so each of them gives the same tokens.
2. Everything that can be checked without a model is checked on construction, with the fix in the message.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from steering.errors import BadInput
from steering.model.sites import Site, parse_sites
from steering.plan.dose import SUFFIXES
from steering.plan.span import Span
from steering.plan.verbs import OPERATIONS

from ..store.manifest import Arm
from ..tasks.items import stream_seed
from ..tasks.single import OneQuestion

LONGEST = 32_768
"""Most tokens that one request may ask for."""
UNSTEERED, STEERED, THINKING = "unsteered", "steered", "thinking"


def _said(error: BadInput) -> ValueError:
    return ValueError(str(error))


class When(BaseModel):
    """A gate: an edit is made only at tokens where what is read lies above the threshold, or below it. `vector` is a digest."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    kind: Literal["projection", "cosine", "entropy"]
    threshold: float
    below: bool = False
    vector: str = Field(default="", pattern=r"^([0-9a-f]{16})?$")
    vector_name: str = ""
    site: str = ""
    """Where it reads; the edit's own site where it is empty."""

    @model_validator(mode="after")
    def _whole(self) -> When:
        if (self.kind == "entropy") == bool(self.vector):
            raise ValueError(f"gate {self.kind} {'takes no' if self.kind == 'entropy' else 'needs a'} vector")
        return self

    def facts(self, vector: str | None = None) -> dict[str, Any]:
        """As in a plan's mapping; `vector` replaces the digest."""
        facts: dict[str, Any] = {"kind": self.kind, "threshold": self.threshold}
        facts |= {"below": True} if self.below else {}
        if self.vector:
            facts |= {"vector": vector} if vector else {"vector": self.vector, "vector_name": self.vector_name}
        return facts | ({"site": self.site} if self.site else {})

    def line(self, vector: str) -> str:
        """As in a one-line plan."""
        read = f"{self.kind}({_quoted(vector)})" if self.vector else self.kind
        where = f" at {self.site}" if self.site else ""
        return f"when {read} {'<' if self.below else '>'} {self.threshold!r}{where}"


def _quoted(name: str) -> str:
    return f'"{name}"' if re.search(r"[\s;()]", name) else name


class Edit(BaseModel):
    """One intervention. `vector` is a digest; `amount` in `unit` (raw, vector, residual, degrees, factor)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    operation: str = "add"
    vector: str = Field(pattern=r"^[0-9a-f]{16}$")
    vector_name: str = ""
    site: str
    span: str = "generated"
    amount: float | None = None
    unit: str | None = None
    keep_norm: bool = False
    gate: When | None = None

    @field_validator("span")
    @classmethod
    def _readable_span(cls, value: str) -> str:
        try:
            return str(Span.parse(value))
        except BadInput as error:
            raise _said(error) from error

    @field_validator("site")
    @classmethod
    def _readable_site(cls, value: str) -> str:
        try:
            parse_sites(value)
        except BadInput as error:
            raise _said(error) from error
        return value

    @model_validator(mode="after")
    def _fitting_dose(self) -> Edit:
        if self.operation not in OPERATIONS:
            raise ValueError(f"unknown operation {self.operation!r}; use one of {', '.join(OPERATIONS)}")
        units = OPERATIONS[self.operation]
        if units and (self.amount is None or self.unit not in units):
            raise ValueError(f"{self.operation} needs an amount in {' or '.join(units)}")
        if not units and self.amount is not None:
            raise ValueError(f"{self.operation} takes no amount")
        if self.gate is not None:
            self._check_gate(self.gate)
        return self

    def _check_gate(self, gate: When) -> None:
        """Raises ValueError for a gate that no plan can have."""
        if gate.kind == "entropy" and not Span.parse(self.span).generated_only:
            raise ValueError(
                f"a gate on entropy reads what a generated token was drawn from, and span {self.span} covers others too; choose "
                "generated, first_n or after_n"
            )
        if gate.site and Site.parse(gate.site).layer > min(site.layer for site in parse_sites(self.site)):
            raise ValueError(
                f"the gate reads {gate.site}, which lies behind the edit at {self.site}; choose a vector of an earlier layer"
            )

    @property
    def dose(self) -> str:
        """As in a one-line plan, such as `0.5v`."""
        if self.amount is None:
            return ""
        return f"{self.amount!r}{next(s for s, unit in SUFFIXES.items() if unit == self.unit)}"

    @property
    def vectors(self) -> tuple[str, ...]:
        """Digests of what it needs."""
        return (self.vector, *([self.gate.vector] if self.gate and self.gate.vector else []))

    def facts(self, files: Mapping[str, str] | None = None) -> dict[str, Any]:
        """As in a plan's mapping; `files` replace the digests."""
        vector = None if files is None else files[self.vector]
        facts: dict[str, Any] = {"operation": self.operation, "vector": vector or self.vector}
        if self.vector_name and vector is None:
            facts["vector_name"] = self.vector_name
        facts |= {"site": self.site, "span": self.span}
        facts["dose"] = None if self.amount is None else {"amount": self.amount, "unit": self.unit}
        facts |= {"keep_norm": True} if self.keep_norm else {}
        if self.gate is not None:
            own = None if files is None else files.get(self.gate.vector)
            facts["gate"] = self.gate.facts(own)
        return facts

    def line(self, vector: str, gating: str = "") -> str:
        """As in a one-line plan, with `vector` (and `gating`, the gate's) as a vector's name or path."""
        words = [self.operation, _quoted(vector), self.dose, "keep-norm" if self.keep_norm else ""]
        gate = [] if self.gate is None else [self.gate.line(gating)]
        return " ".join([*filter(None, words), "at", self.site, "on", self.span, *gate])


class LiveRequest(BaseModel):
    """One question under no steering and under a stack of edits; with `thinking`, another model beside."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    item: str | None = None
    prompt: str | None = Field(default=None, max_length=200_000)
    form: str = "bare"
    model: str = "builtin:base"
    thinking: str | None = None
    edits: tuple[Edit, ...] = ()
    files: dict[str, str] = {}
    """Path of each vector's file by digest."""
    max_new_tokens: int = Field(default=200, ge=1, le=LONGEST)
    temperature: float = Field(default=0.0, ge=0, le=10)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _whole(self) -> LiveRequest:
        try:
            task = self.task
        except BadInput as error:
            raise _said(error) from error
        if self.form not in task.forms:
            raise ValueError(f"prompt form {self.form!r} does not exist here; use one of {', '.join(task.forms)}")
        if self.temperature == 0 and (self.top_k is not None or self.top_p is not None):
            raise ValueError("top_k and top_p need a temperature above 0; greedy ignores them")
        missing = [digest for digest in self.vectors if digest not in self.files]
        if missing:
            raise ValueError(f"no file is given for vector {missing[0]}")
        return self

    @property
    def vectors(self) -> list[str]:
        """Digests of all vectors of the edits and their gates."""
        return list(dict.fromkeys(digest for edit in self.edits for digest in edit.vectors))

    @property
    def task(self) -> OneQuestion:
        """The question as a task."""
        return OneQuestion(self.item, self.prompt)

    @property
    def text(self) -> str:
        """The prompt as fed."""
        task = self.task
        return task.prompt(task.items(task.splits[0], 1)[0], self.form)

    @property
    def stream(self) -> int:
        """The seed of the row's random stream."""
        task = self.task
        return stream_seed(task.items(task.splits[0], 1)[0].id, self.seed)

    def lanes(self) -> list[str]:
        """The texts that are asked for."""
        return [UNSTEERED, *([STEERED] if self.edits else []), *([THINKING] if self.thinking else [])]

    def plan(self, vectors: Literal["digest", "file"] = "digest") -> dict[str, Any]:
        """The plan as a mapping."""
        return {"interventions": [edit.facts(self.files if vectors == "file" else None) for edit in self.edits]}

    def line(self) -> str:
        """The plan in one line, vectors by path."""
        return "; ".join(
            edit.line(self.files[edit.vector], self.files.get(edit.gate.vector, "") if edit.gate else "")
            for edit in self.edits
        )

    def spec(self, vectors: Literal["digest", "file"] = "digest") -> dict[str, Any]:
        """The evaluation that makes the same rows, as `experiments.evaluation.spec.EvalSpec` reads it."""
        arms = [Arm(name=UNSTEERED, label=UNSTEERED, role="baseline", model=self.model, form=self.form)]
        if self.edits:
            arms.append(
                Arm(
                    name=STEERED,
                    label=STEERED,
                    role="steered",
                    model=self.model,
                    form=self.form,
                    plan=self.plan(vectors),
                    description="; ".join(
                        edit.line(edit.vector_name or edit.vector, edit.gate.vector_name if edit.gate else "")
                        for edit in self.edits
                    ),
                )
            )
        if self.thinking:
            arms.append(Arm(name=THINKING, label=THINKING, role="reference", model=self.thinking, form=self.form))
        question = {"item": self.item} if self.item is not None else {"prompt": self.prompt}
        sampling = {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        return {
            "name": "playground",
            "task": {"dataset": "one-question", **question},
            "splits": {self.task.splits[0]: 1},
            "arms": [arm.model_dump(mode="json", exclude_none=True) for arm in arms],
            "generation": {
                "max_new_tokens": self.max_new_tokens,
                **{key: value for key, value in sampling.items() if value is not None},
                "seeds": [self.seed],
            },
        }

    def as_command(self) -> str:
        """The command line that writes the same texts."""
        words = ["steer", "generate", "--model", self.model, "--prompt", self.text]
        words += ["--plan", self.line()] if self.edits else []
        words += ["--max-new-tokens", str(self.max_new_tokens)]
        if self.temperature:
            words += ["--temperature", repr(self.temperature), "--seed", str(self.stream)]
            words += ["--top-k", str(self.top_k)] if self.top_k is not None else []
            words += ["--top-p", repr(self.top_p)] if self.top_p is not None else []
        return shlex.join(words)

    def as_yaml(self) -> str:
        """The spec for `steer eval FILE`."""
        return yaml.safe_dump(self.spec("file"), sort_keys=False, allow_unicode=True, width=110)

    def as_python(self) -> str:
        """Code that generates the same rows."""
        sampled = self.temperature > 0
        settings = [f"max_new_tokens={self.max_new_tokens}"]
        settings += [f"temperature={self.temperature!r}"] if sampled else []
        settings += [f"top_k={self.top_k}"] if self.top_k is not None else []
        settings += [f"top_p={self.top_p!r}"] if self.top_p is not None else []
        seed = f", seed={self.stream}" if sampled else ""
        rows = [f"Row(prompt{seed})"] + ([f"Row(prompt, plan{seed})"] if self.edits else [])
        lines = [
            "from steering.engine.generation import Row, generate",
            *(["from steering.plan.expression import parse_plan"] if self.edits else []),
            "from steering.model.models import load_model",
            "from steering.model.prompts import encode_prompt",
            "from steering.engine.sampling import GenerationSettings",
            "",
            f"model = load_model({self.model!r})",
            *([f"plan = parse_plan({self.line()!r})"] if self.edits else []),
            f"prompt = encode_prompt(model, {self.text!r})",
            f"rows = [{', '.join(rows)}]",
            f"for row in generate(model, rows, GenerationSettings({', '.join(settings)})):",
            "    print(model.tokenizer.decode(row.token_ids), row.receipt.fired, row.receipt.planned)",
        ]
        return "\n".join(lines) + "\n"
