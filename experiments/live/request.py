"""What is asked of a live generation: one question, a model, edits, sampling. Plain data, read without a model library.

1. One object says everything: the evaluation spec that runs, the one-line plan, the command line, the YAML file and the Python code are
   written from it, so each of them gives the same tokens.
2. Everything that can be checked without a model is checked on construction, with the fix in the message.
"""

from __future__ import annotations

import shlex
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from steering.errors import BadInput

from ..store.manifest import Arm
from ..tasks.conversation import Conversation
from ..tasks.items import stream_seed
from ..tasks.single import OneQuestion
from ..tasks.turn import Turn
from .edits import Edit, said

LONGEST = 32_768
"""Most tokens that one request may ask for."""
DRAWS = 32
"""Most texts of one lane."""
UNSTEERED, STEERED, THINKING = "unsteered", "steered", "thinking"


class LiveRequest(BaseModel):
    """One question under no steering and under a stack of edits; with `thinking`, another model beside."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    item: str | None = None
    prompt: str | None = Field(default=None, max_length=200_000)
    turns: tuple[Turn, ...] = Field(default=(), max_length=200)
    """A conversation, asked through the model's chat template."""
    switch: bool | None = None
    """Thinking on or off, where that template has a switch."""
    form: str = "bare"
    model: str = "builtin:base"
    thinking: str | None = None
    edits: tuple[Edit, ...] = ()
    files: dict[str, str] = {}
    """Path of each vector's file by digest."""
    begun: tuple[int, ...] = Field(default=(), max_length=LONGEST)
    """First tokens of the response, which every lane goes on from."""
    samples: int = Field(default=1, ge=1, le=DRAWS)
    """Texts per lane, drawn apart."""
    max_new_tokens: int = Field(default=200, ge=1, le=LONGEST)
    """Of the response, those that it begins with among them."""
    temperature: float = Field(default=0.0, ge=0, le=10)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _whole(self) -> LiveRequest:
        if self.turns and (self.item is not None or self.prompt is not None):
            raise ValueError("give an item, a prompt or the turns of a conversation: one of them")
        if self.switch is not None and not self.turns:
            raise ValueError("thinking on or off belongs to a conversation's chat template; this is none")
        try:
            task = self.task
        except BadInput as error:
            raise said(error) from error
        if self.form not in task.forms:
            raise ValueError(f"prompt form {self.form!r} does not exist here; use one of {', '.join(task.forms)}")
        if self.temperature == 0 and (self.top_k is not None or self.top_p is not None):
            raise ValueError("top_k and top_p need a temperature above 0; greedy ignores them")
        if self.temperature == 0 and self.samples > 1:
            raise ValueError(f"{self.samples} texts per lane would be one text, greedily; give a temperature above 0")
        if len(self.begun) >= self.max_new_tokens:
            raise ValueError(
                f"the text begins with {len(self.begun)} tokens, and the token limit, which counts them, is {self.max_new_tokens}; "
                "give a larger one"
            )
        missing = [digest for digest in self.vectors if digest not in self.files]
        if missing:
            raise ValueError(f"no file is given for vector {missing[0]}")
        return self

    @property
    def vectors(self) -> list[str]:
        """Digests of all vectors of the edits and their gates."""
        return list(dict.fromkeys(digest for edit in self.edits for digest in edit.vectors))

    @property
    def task(self) -> OneQuestion | Conversation:
        """The question as a task."""
        return Conversation(self.turns, self.switch) if self.turns else OneQuestion(self.item, self.prompt)

    @property
    def texts(self) -> tuple[str, ...]:
        """What was written: the prompt, or each turn."""
        return tuple(turn.content for turn in self.turns) if self.turns else (self.text,)

    @property
    def text(self) -> str:
        """The prompt as fed; of a conversation its turns, without the template."""
        task = self.task
        return task.prompt(task.items(task.splits[0], 1)[0], self.form)

    @property
    def streams(self) -> tuple[int, ...]:
        """The seeds of the rows' random streams, one per text of a lane."""
        task = self.task
        name = task.items(task.splits[0], 1)[0].id
        return tuple(stream_seed(name, self.seed + draw) for draw in range(self.samples))

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
        shared: dict[str, Any] = {"form": self.form, "begun": self.begun}
        arms = [Arm(name=UNSTEERED, label=UNSTEERED, role="baseline", model=self.model, **shared)]
        if self.edits:
            arms.append(
                Arm(
                    name=STEERED,
                    label=STEERED,
                    role="steered",
                    model=self.model,
                    **shared,
                    plan=self.plan(vectors),
                    description="; ".join(
                        edit.line(edit.vector_name or edit.vector, edit.gate.vector_name if edit.gate else "")
                        for edit in self.edits
                    ),
                )
            )
        if self.thinking:
            arms.append(Arm(name=THINKING, label=THINKING, role="reference", model=self.thinking, **shared))
        task: dict[str, Any] = {"dataset": self.task.name}
        if self.turns:
            task |= {"turns": [turn.model_dump() for turn in self.turns]}
            task |= {} if self.switch is None else {"thinking": self.switch}
        else:
            task |= {"item": self.item} if self.item is not None else {"prompt": self.prompt}
        sampling = {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        return {
            "name": "playground",
            "task": task,
            "splits": {self.task.splits[0]: 1},
            "arms": [arm.model_dump(mode="json", exclude_none=True) for arm in arms],
            "generation": {
                "max_new_tokens": self.max_new_tokens,
                **{key: value for key, value in sampling.items() if value is not None},
                "seeds": [self.seed + draw for draw in range(self.samples)],
            },
        }

    def as_command(self) -> str:
        """The command line that writes the same texts."""
        words = ["steer", "generate", "--model", self.model]
        if self.turns:
            words += ["--chat"]
            words += [word for turn in self.turns for word in ("--turn", f"{turn.role}:{turn.content}")]
            words += [] if self.switch is None else ["--thinking", "on" if self.switch else "off"]
        else:
            words += ["--prompt", self.text]
        words += ["--plan", self.line()] if self.edits else []
        words += ["--max-new-tokens", str(self.max_new_tokens)]
        words += ["--begun", ",".join(map(str, self.begun))] if self.begun else []
        if self.temperature:
            words += ["--temperature", repr(self.temperature)]
            words += [word for seed in self.streams for word in ("--seed", str(seed))]
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
        begun = ", begun=begun" if self.begun else ""
        seeds = [f", seed={seed}" for seed in self.streams] if sampled else [""]
        rows = [f"Row(prompt{seed}{begun})" for seed in seeds]
        rows += [f"Row(prompt, plan{seed}{begun})" for seed in seeds] if self.edits else []
        lines = [
            "from steering.engine.generation import Row, generate",
            *(["from steering.plan.expression import parse_plan"] if self.edits else []),
            "from steering.model.models import load_model",
            *(
                [
                    "from experiments.tasks.conversations import asked, parse_turn",
                    "from experiments.tasks.own_texts import OwnPrompt",
                ]
                if self.turns
                else ["from steering.model.prompts import encode_prompt"]
            ),
            "from steering.engine.sampling import GenerationSettings",
            "",
            f"model = load_model({self.model!r})",
            *([f"plan = parse_plan({self.line()!r})"] if self.edits else []),
            *self._prompt_lines(),
            *([f"begun = {self.begun!r}"] if self.begun else []),
            f"rows = [{', '.join(rows)}]",
            f"for row in generate(model, rows, GenerationSettings({', '.join(settings)})):",
            "    print(model.tokenizer.decode(row.token_ids), row.receipt.fired, row.receipt.planned)",
        ]
        return "\n".join(lines) + "\n"

    def _prompt_lines(self) -> list[str]:
        """Code that encodes what is asked."""
        if not self.turns:
            return [f"prompt = encode_prompt(model, {self.text!r})"]
        turns = "".join(f"parse_turn({f'{turn.role}:{turn.content}'!r}), " for turn in self.turns)
        given = f"[OwnPrompt(messages=({turns}))], chat=True, thinking={self.switch!r}"
        return [f"prompt = asked(model, {given})[0].ids"]
