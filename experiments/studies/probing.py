"""Probe targets of the built-in task, with its exact labels in the common record.

1. Texts come from training problems; groups are rule chains, so no chain is on both sides of a split.
2. Labels of the grammar have the detector `grammar` and confidence 1: they are exact, and the only ones that are.
3. Targets: `behaviour` (of the next span), `correct` (of the answer, at the end of each computed line), `disagreement` (of the base with
   the thinking model's text), `mode` (whether the prompt asks for thinking or for a quick answer, at its last token: the tokens give it
   away, and the baseline beside it says so), `reasons` (whether the response to the bare prompt will reason, at the prompt's last token,
   which is always the same one), `difficulty` (how many rules, at the last token of the bare prompt).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from probes.labels import BehaviourLabel
from probes.stability import Boundary, FirstLabel, stability, wilson
from probes.targets import Examples, at_positions, correctness, disagreement, next_behaviour
from steering.engine.generation import Generation, Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput, unknown
from steering.model.models import LoadedModel, load_model
from steering.model.prompts import encode_prompt

from ..pair.problem import Form, Problem
from ..pair.verifier import BEHAVIOURS, Verdict, verify
from .readings import training_problems
from .texts import SAMPLED_TOKENS

DETECTOR = "grammar"
MODES: tuple[Form, Form] = ("quick", "think")


@dataclass(frozen=True, eq=False)
class Response:
    """A sampled response to a problem, with what the verifier found."""

    problem: Problem
    generation: Generation
    words: tuple[str, ...]
    """The response's tokens without the end token."""
    verdict: Verdict

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        return self.generation.prompt_ids

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Without the end token."""
        return self.generation.token_ids[: len(self.words)]

    @property
    def labels(self) -> tuple[BehaviourLabel, ...]:
        """Exact labels over the tokens of the response."""
        return exact_labels(self.verdict)


def exact_labels(verdict: Verdict) -> tuple[BehaviourLabel, ...]:
    """The verifier's spans in the common record, in tokens (one word is one token)."""
    return tuple(
        BehaviourLabel(s.start, s.end, s.label, DETECTOR, 1.0, "tokens") for s in verdict.labels if s.end > s.start
    )


def responses(
    model: LoadedModel, problems: Sequence[Problem], form: Form, *, temperature: float = 1.0, seed: int = 0
) -> list[Response]:
    """One sampled response per problem, with its entropies."""
    rows = [Row(encode_prompt(model, p.prompt(form)), seed=seed + i) for i, p in enumerate(problems)]
    made = generate(model, rows, GenerationSettings(SAMPLED_TOKENS, temperature=temperature), batch_size=96)
    found = []
    for problem, generation in zip(problems, made, strict=True):
        words = tuple(model.tokenizer.decode([t]) for t in generation.token_ids if t not in model.eos_ids)
        found.append(Response(problem, generation, words, verify(problem, list(words))))
    return found


def _behaviour(model: LoadedModel, problems: Sequence[Problem]) -> Examples:
    made = responses(model, problems, "think")
    return next_behaviour(
        [r.prompt_ids for r in made],
        [r.token_ids for r in made],
        [r.labels for r in made],
        [r.problem.chain for r in made],
    )


def _correct(model: LoadedModel, problems: Sequence[Problem]) -> Examples:
    made = [r for r in responses(model, problems, "think") if r.verdict.reasoned and r.verdict.answer is not None]
    ends = [[s.end for s in r.verdict.labels if s.label == "computing"] for r in made]
    return correctness(
        [r.prompt_ids for r in made], [r.token_ids for r in made], ends, [r.verdict.correct for r in made],
        [r.problem.chain for r in made],
    )  # fmt: skip


def _disagreement(model: LoadedModel, problems: Sequence[Problem]) -> Examples:
    made = responses(load_model("builtin:thinking"), problems, "bare", temperature=0.0)
    base = model if model.id == "builtin:base" else load_model("builtin:base")
    return disagreement(
        base, [r.prompt_ids for r in made], [r.token_ids for r in made], [r.problem.chain for r in made]
    )


def _mode(model: LoadedModel, problems: Sequence[Problem]) -> Examples:
    asked = [(form, p) for p in problems for form in MODES]
    prompts = [encode_prompt(model, p.prompt(form)) for form, p in asked]
    return at_positions(
        "the prompt asks for thinking", prompts, [-1] * len(prompts), [MODES.index(form) for form, _ in asked],
        [p.chain for _, p in asked], ("direct", "thinking"),
    )  # fmt: skip


def _reasons(model: LoadedModel, problems: Sequence[Problem]) -> Examples:
    made = responses(model, problems, "bare")
    return at_positions(
        "the response will reason", [r.prompt_ids for r in made], [-1] * len(made), [int(r.verdict.reasoned) for r in made],
        [r.problem.chain for r in made], ("direct", "reasoning"),
    )  # fmt: skip


def _difficulty(model: LoadedModel, problems: Sequence[Problem]) -> Examples:
    counts = sorted({len(p.rules) for p in problems})
    prompts = [encode_prompt(model, p.prompt("bare")) for p in problems]
    return at_positions(
        "rules of the problem", prompts, [-1] * len(prompts), [counts.index(len(p.rules)) for p in problems],
        [p.chain for p in problems], [f"{n} rules" for n in counts],
    )  # fmt: skip


TARGETS: dict[str, Callable[[LoadedModel, Sequence[Problem]], Examples]] = {
    "behaviour": _behaviour,
    "correct": _correct,
    "disagreement": _disagreement,
    "mode": _mode,
    "reasons": _reasons,
    "difficulty": _difficulty,
}


def check_target(target: str) -> None:
    """Raises BadInput for an unknown target."""
    if target not in TARGETS:
        raise unknown("target", target, TARGETS)


def builtin_examples(target: str, model: LoadedModel, problems: int = 300, seed: int = 0) -> Examples:
    """Examples of a target on `problems` training problems, without classes too rare to be fitted and measured.

    Raises BadInput for an unknown target, or where fewer than two classes remain.
    """
    check_target(target)
    return TARGETS[target](model, training_problems(problems, seed)).usable()


def read_examples(model: LoadedModel, path: Path) -> Examples:
    """Examples of any model from JSON lines `{"text", "label", "group"}`: each text is read at its last token.

    Without a `group` a line is a group of its own. Raises BadInput for a missing file, or a line that lacks text or label, by its number.
    """
    if not path.is_file():
        raise BadInput(
            f'No examples at {path}. Write one JSON object per line: {{"text": ..., "label": ..., "group": ...}}.'
        )
    sequences, labels, groups = [], [], []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            sequences.append(encode_prompt(model, entry["text"]))
            labels.append(str(entry["label"]))
            groups.append(str(entry.get("group", f"line {number}")))
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{path}, line {number}: {error}; a line is an object with text and label.") from error
    classes = sorted(set(labels))
    found = at_positions(
        path.name, sequences, [-1] * len(sequences), [classes.index(k) for k in labels], groups, classes
    )
    return found.usable(2)


def exact_first_label(problem: Problem, model: LoadedModel) -> FirstLabel:
    """For `probes.stability`: the grammar's label of the span that begins at the cut."""

    def first(before: tuple[int, ...], continuation: tuple[int, ...]) -> str | None:
        words = [model.tokenizer.decode([t]) for t in (*before, *continuation)]
        begun = [s.label for s in verify(problem, words).labels if s.start == len(before) and s.end > s.start]
        return begun[0] if begun else None

    return first


def stability_report(
    model: str, behaviour: str, problems: int, samples: int, spans: int, seed: int = 0
) -> dict[str, Any]:
    """Resample before spans of an exact label in sampled think-first responses. Plain data; BadInput where no span has the label."""
    if behaviour not in BEHAVIOURS:
        raise unknown("behaviour", behaviour, BEHAVIOURS)
    loaded = load_model(model)
    made = responses(loaded, training_problems(problems, seed), "think")
    chosen = [
        (i, Boundary(r.prompt_ids, r.token_ids, label), exact_first_label(r.problem, loaded))
        for i, r in enumerate(made)
        for label in r.labels
        if label.label == behaviour
    ]
    if not chosen:
        raise BadInput(f"{problems} responses of {model} hold no {behaviour}; read more problems.")
    return resampled(loaded, behaviour, DETECTOR, chosen[:spans], samples, seed)


def resampled(
    model: LoadedModel,
    behaviour: str,
    detector: str,
    chosen: Sequence[tuple[int, Boundary, FirstLabel]],
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """What comes after each boundary, `(problem, boundary, who labels what comes)`, when it is sampled again. Plain data."""
    found = []
    for i, boundary, first in chosen:
        (result,) = stability(model, [boundary], first, n=samples, seed=seed)
        found.append({"problem": i, "token": boundary.label.start, **asdict(result)})
    kept, n = sum(r["kept"] for r in found), sum(r["n"] for r in found)
    share = asdict(wilson(kept, n))
    return {"behaviour": behaviour, "detector": detector, "kept": kept, "n": n, "share": share, "spans": found}
