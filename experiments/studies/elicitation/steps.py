"""Traces in steps, answers forced after any of them, and continuations drawn from any of them.

1. A step is a sentence: up to a token that ends one. In the built-in task that is a clause, whose kind is exact (the verifier's labels) and
   whose meaning is what it says, however it is worded. Elsewhere a step has no kind and its meaning is its text.
2. A trace's last step, which states the answer or was cut off, is none of its steps: what is asked is which of those before it matter.
3. An answer is forced by a cue after a prefix: the prefix is read as it stands, nothing of it is written again.
4. Continuations of one prefix share its reading: one prefill for N rows. Each prefix has seeds of its own, so that the samples of two
   neighbouring prefixes are independent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steering.compile.text import token_facts
from steering.engine.forced import unsteered_logprob
from steering.engine.generation import Row, generate
from steering.engine.predicted import next_logprobs
from steering.engine.sampling import GenerationSettings
from steering.model.models import LoadedModel

from ...decoders.candidates import own_seed
from ...decoders.paths import cue_ids
from ...pair.problem import Problem
from ...pair.verifier import verify
from ...store.runs import Run
from ...tasks.graders.grade import Grade
from ...tasks.items import Item, stream_seed
from ...tasks.task import FindStart, Task
from .asked import Setting
from .paths import CUES
from .workroom import Workroom

BATCH = 256
OTHER = "another answer, or none"
CHOICES = ("proposing", "giving up", "abandoning")
"""Kinds of steps that decide: they propose a candidate, leave one midway, or stop trying."""
_KINDS = {
    "concluding": "concluding", "giving up": "giving up", "testing the goal": "testing the goal", "proposing": "proposing",
    "self-correcting": "self-correcting", "checking": "checking", "computing": "computing", "backtracking": "abandoning",
}  # fmt: skip
"""The kind of a clause by the first of these labels that lies in it."""


@dataclass(frozen=True)
class Step:
    """Tokens `start:end` of a response."""

    start: int
    end: int
    text: str
    kind: str
    meaning: str

    @property
    def choice(self) -> bool:
        return self.kind in CHOICES


@dataclass(frozen=True)
class Trace:
    """A response in steps. `ids` are without the end token, `candidates` what the prompt lists (none where it lists nothing)."""

    item: Item
    arm: str
    label: str
    model: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    steps: tuple[Step, ...]
    answer: str | None
    cut: bool
    candidates: tuple[str, ...] = field(default=())

    @property
    def prefixes(self) -> tuple[tuple[int, ...], ...]:
        """The ids before every step, and those after the last one."""
        return (*(self.ids[: step.start] for step in self.steps), self.ids[: self.steps[-1].end])

    def category(self, answer: str | None) -> str:
        """An answer that the prompt lists, or `OTHER`; where it lists none, the answer itself."""
        if answer is None:
            return OTHER
        return answer if not self.candidates or answer in self.candidates else OTHER

    def place(self, answer: str | None) -> str:
        """Which of the prompt's candidates it is, which is comparable over problems; elsewhere the answer itself."""
        named = self.category(answer)
        return f"candidate {self.candidates.index(named) + 1}" if named in self.candidates else named


def meaning(text: str, builtin: bool) -> str:
    """What a step says. In the built-in task openers, `hmm` before a check, and what was rejected before are wording."""
    words = text.split()
    if not builtin:
        return " ".join(words)
    if words[-1:] == [";"]:
        words = words[:-1]
    if "try" in words[:-1]:
        return " ".join(words[words.index("try") :])
    if words[:1] == ["hmm"] and words[1:2] == ["check"]:
        words = words[1:]
    return " ".join(words)


def steps_of(model: LoadedModel, ids: Sequence[int], problem: Problem | None = None) -> tuple[Step, ...]:
    """All steps of a response (ids without the end token), its last one included."""
    facts = token_facts(model)
    cuts: list[int] = []
    for n, token in enumerate(ids):
        following = facts.text(ids[n + 1]) if n + 1 < len(ids) else ""
        decimal = facts.text(token).endswith(".") and following[:1].isdigit()
        if facts.ends_sentence(token) and not decimal:
            cuts.append(n + 1)
    if not cuts or cuts[-1] < len(ids):
        cuts.append(len(ids))
    spans: list[tuple[int, int]] = []
    for start, end in zip((0, *cuts), cuts, strict=False):
        if spans and not any(facts.has_content(token) for token in ids[start:end]):
            spans[-1] = (spans[-1][0], end)
        elif end > start:
            spans.append((start, end))
    labels = verify(problem, [facts.text(token).strip() for token in ids]).labels if problem else []
    found = []
    for start, end in spans:
        text = model.tokenizer.decode(list(ids[start:end]))
        own = {label.label for label in labels if label.start < end and label.end > start}
        kind = next((kind for name, kind in _KINDS.items() if name in own), "outside the grammar" if problem else "")
        found.append(Step(start, end, text, kind, meaning(text, problem is not None)))
    return tuple(found)


def cue_of(room: Workroom, given: str | None) -> str:
    """What asks for an answer, in the words of the task."""
    return given or CUES.get(room.asked.found.name.split(":")[0], "\nSo the answer is")


def trace_run(room: Workroom, card: str, setting: Setting, n: int) -> Run:
    """The run that holds the traces: base, its think-first prompt where the setting is another, and the thinking model asked so too."""
    arms = [arm for arm in room.references(setting) if arm.role != "reference"]
    if room.asked.thinking:
        arms.append(
            room.arm(
                setting, "thinking", "thinking model, asked to think first", "reference", model=room.asked.thinking,
                form=room.asked.think,
            )
        )  # fmt: skip
    return room.evaluate(card, setting, arms, n)


def traces_of(room: Workroom, run: Run, setting: Setting, room_for: int) -> tuple[dict[str, list[Trace]], list[str]]:
    """Per arm that is asked to think first, its traces with at least one step, and a sentence about those that are left out. `room_for`:
    tokens that must fit into the context behind a trace."""
    task, said = room.asked.found, []
    items = {item.id: item for item in task.items(setting.split, run.manifest.splits[setting.split])}
    found: dict[str, list[Trace]] = {}
    for arm in run.manifest.arms:
        if arm.form != room.asked.think:
            continue
        model = room.model(str(arm.model))
        rows = run.table(columns=["split", "item", "prompt_ids", "token_ids", "answer", "finish"], arms=[arm.name])
        own: list[Trace] = []
        bare = long = 0
        for row in rows.to_pylist():
            if row["split"] != setting.split:
                continue
            ids = tuple(token for token in row["token_ids"] if token not in model.eos_ids)
            item = items[row["item"]]
            problem = item.data if isinstance(item.data, Problem) else None
            steps = steps_of(model, ids, problem)[:-1]
            bare += not steps
            too_long = bool(steps) and len(row["prompt_ids"]) + len(ids) + room_for > model.context
            long += too_long
            if steps and not too_long:
                listed = tuple(map(str, problem.candidates)) if problem else ()
                cut, asked = row["finish"] != "eos", tuple(row["prompt_ids"])
                own.append(
                    Trace(item, arm.name, arm.label, str(arm.model), asked, ids, steps, row["answer"], cut, listed)
                )
        found[arm.name] = own
        cut_off = sum(trace.cut for trace in own)
        words = f"{setting.name}: {arm.label}: {len(own)} traces of {sum(len(t.steps) for t in own)} steps before the last one"
        words += f"; {cut_off} of them were cut off" if cut_off else ""
        words += f"; {bare} texts of one step or none are left out" if bare else ""
        words += f"; {long} are left out, for no answer fits behind them" if long else ""
        said.append(words + ".")
    return found, said


def distinct(settings: Sequence[Setting]) -> list[Setting]:
    """One setting per split: traces are asked for in one form."""
    return list({setting.split: setting for setting in reversed(settings)}.values())[::-1]


def forced_answers(
    model: LoadedModel, task: Task, contexts: Sequence[tuple[Item, tuple[int, ...]]], cue: str, tokens: int
) -> list[str | None]:
    """The greedy answer after each context (item, all ids that are read) and the cue; None where none is found."""
    return [grade.answer for grade in forced_grades(model, task, contexts, cue, tokens)]


def forced_grades(
    model: LoadedModel, task: Task, contexts: Sequence[tuple[Item, tuple[int, ...]]], cue: str, tokens: int
) -> list[Grade]:
    """The task's verdict on what is greedily written after each context and the cue, which is read with it."""
    if not contexts:
        return []
    asked = cue_ids(model, cue)
    rows = [Row((*ids, *asked)) for _, ids in contexts]
    written = generate(model, rows, GenerationSettings(tokens), batch_size=BATCH, detail="tokens")
    return [
        task.grade(item, cue + decoded(model, one.token_ids, spaced=True))
        for (item, _), one in zip(contexts, written, strict=True)
    ]


def decoded(model: LoadedModel, ids: Sequence[int], spaced: bool = False) -> str:
    """Text of ids without special tokens; `spaced` puts the blank back that decoding takes from its beginning."""
    text = str(model.tokenizer.decode([token for token in ids if token not in model.eos_ids]))
    if not spaced or text[:1].isspace() or not text:
        return text
    pair = str(model.tokenizer.decode([ids[0], *ids]))
    first = str(model.tokenizer.decode([ids[0]]))
    return (" " if pair[len(first) :].startswith(" ") else "") + text


def answer_ids(model: LoadedModel, cue: str, answer: str) -> tuple[int, ...]:
    """The answer's ids behind the cue."""
    head = tuple(model.tokenizer(cue, add_special_tokens=False)["input_ids"])
    whole = tuple(model.tokenizer(f"{cue} {answer}", add_special_tokens=False)["input_ids"])
    if whole[: len(head)] == head and len(whole) > len(head):
        return whole[len(head) :]
    return tuple(model.tokenizer(f" {answer}", add_special_tokens=False)["input_ids"])


def answer_distributions(
    model: LoadedModel, contexts: Sequence[tuple[int, ...]], cue: str, answers: Sequence[str]
) -> np.ndarray:
    """Probabilities `[contexts, answers + 1]` of the answers after each context and the cue. The last column is every other continuation
    where answers are single tokens; where they are not, the answers are weighed against each other and it is 0."""
    asked, own = cue_ids(model, cue), [answer_ids(model, cue, answer) for answer in answers]
    found = np.zeros((len(contexts), len(answers) + 1))
    if all(len(ids) == 1 for ids in own) and len(set(own)) == len(own):
        read = next_logprobs(model, [Row((*context, *asked)) for context in contexts]).double().exp().numpy()
        found[:, :-1] = read[:, [ids[0] for ids in own]]
        found[:, -1] = np.maximum(0.0, 1 - found.sum(1))
        return found
    texts = [((*context, *asked), ids) for context in contexts for ids in own]
    scores = np.array([sum(one) for one in unsteered_logprob(model, texts)]).reshape(len(contexts), len(answers))
    weights = np.exp(scores - scores.max(1, keepdims=True))
    found[:, :-1] = weights / weights.sum(1, keepdims=True)
    return found


def resampled(
    room: Workroom, trace: Trace, samples: int, temperature: float, batch_size: int = BATCH
) -> dict[str, list[list[Any]]]:
    """Continuations of every prefix of a trace, each to its end: per prefix the `answers` of the samples, and but for the last prefix
    whether each one's first step says something else than the trace's (`differs`), and whether what the trace says there comes back later
    in it (`returns`). A part: made once."""
    facts = {
        "model": trace.model, "prompt": ids_hash(trace.prompt_ids), "trace": ids_hash(trace.ids), "item": trace.item.id, "samples": samples,
        "temperature": temperature,
    }  # fmt: skip
    return dict(room.part("resamples", facts, lambda: _resample(room, trace, samples, temperature, batch_size)))


def _resample(
    room: Workroom, trace: Trace, samples: int, temperature: float, batch_size: int
) -> dict[str, list[list[Any]]]:
    model, task, most = room.model(trace.model), room.asked.found, room.asked.max_new_tokens
    problem = trace.item.data if isinstance(task, FindStart) else None
    prefixes = trace.prefixes
    rows = [
        Row(trace.prompt_ids, seed=own_seed(stream_seed(trace.item.id, 0), place, sample), begun=prefix)
        for place, prefix in enumerate(prefixes)
        for sample in range(samples)
    ]
    settings = GenerationSettings(most, temperature=temperature)
    written = generate(model, rows, settings, batch_size=batch_size, detail="tokens")
    found: dict[str, list[list[Any]]] = {"answers": [], "differs": [], "returns": []}
    for place, prefix in enumerate(prefixes):
        own = [
            tuple(token for token in one.token_ids if token not in model.eos_ids)
            for one in written[place * samples : (place + 1) * samples]
        ]
        found["answers"].append([task.grade(trace.item, decoded(model, ids)).answer for ids in own])
        if place < len(trace.steps):
            said = trace.steps[place].meaning
            parts = [[s.meaning for s in steps_of(model, ids[len(prefix) :])] for ids in own]
            if problem is not None:
                parts = [[meaning(text, True) for text in own_parts] for own_parts in parts]
            found["differs"].append([not part or part[0] != said for part in parts])
            found["returns"].append([said in part[1:] for part in parts])
    return found


def ids_hash(ids: Sequence[int]) -> str:
    """What names a part that depends on ids: 16 hexadecimal digits."""
    return hashlib.sha256(" ".join(map(str, ids)).encode()).hexdigest()[:16]
