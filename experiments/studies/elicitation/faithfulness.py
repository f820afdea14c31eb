"""Does the answer hang on the trace? (2307.13702, 2411.15382), and does removed content come back? (2510.27484)

1. Early answering, filler of as many tokens, and another problem's trace (of as many tokens, or whole where it has fewer): the answer is
   forced behind them and compared with the one that is forced behind the whole trace. A mistake and a rewording: the model goes on from
   the trace with it, greedily, and the answer is compared with the trace's own.
2. Area over the curve: 1 - the area under the same-answer share against the share of steps; 0 where the answer never hangs on the trace.
3. In the built-in task mistakes are exact (`edits`): the answer that follows from a changed value is known, so that a text follows it,
   keeps its answer or repairs it. Elsewhere neither mistakes nor rewordings are made: by hand they are no exact ones.
4. Hand-edited texts are not the model's own. Its own arm is resilience: of continuations that write a step anew and say something else
   there, how many say later what was removed.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import Field

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings

from ...decoders.paths import cue_ids
from .asked import Setting
from .card import Card, Options
from .edits import edits_of, outcome, reworded
from .findings import Point, Table
from .points import points_of
from .resilience import resilience
from .same_answers import EDITS, SHARES, TESTS, Same, agreements, curves, hangs, outcomes_table, unanswered
from .steps import (
    BATCH,
    Trace,
    cue_of,
    decoded,
    distinct,
    forced_answers,
    resampled,
    trace_run,
    traces_of,
)
from .workroom import Workroom

FILLERS = {"find-start": ";"}
"""What says nothing, in the words of a task."""


class FaithfulnessOptions(Options):
    edits: int = Field(default=4, ge=1)
    """Of each kind, per trace."""
    resilient: int = Field(default=4, ge=0)
    """Traces per model of which every step is removed."""
    samples: int = Field(default=32, ge=2)
    """Continuations per removed step."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the samples."""
    answer_tokens: int | None = Field(default=None, ge=1)
    """Tokens that an answer may take behind the cue; by default what the task needs."""
    cue: str | None = None
    """What asks for the answer behind a part of the trace; by default the task's."""
    filler: str | None = None
    """By default the task's own word, or ` ...`."""


def run(room: Workroom, options: FaithfulnessOptions) -> tuple[list[Point], list[Table], list[str]]:
    points: list[Point] = []
    tables: list[Table] = []
    said: list[str] = []
    cue, tokens = cue_of(room, options.cue), options.answer_tokens or (1 if room.asked.builtin else 12)
    for setting in room.asked.settings:
        points += points_of(trace_run(room, "faithfulness", setting, options.n), setting)
    for setting in distinct(room.asked.settings):
        found = trace_run(room, "faithfulness", setting, options.n)
        traces, words = traces_of(room, found, setting, len(cue_ids(room.base, cue)) + tokens)
        said += words
        for own in traces.values():
            if not own:
                continue
            label = own[0].label
            facts = {"run": found.manifest.run_id, "arm": own[0].arm, "options": options.model_dump(mode="json")}
            part = room.part("faithful", facts, partial(_tested, room, own, options, cue, tokens))
            tests = {
                name: [Same(tuple(a), tuple(b), c, tuple(d), e) for a, b, c, d, e in each]
                for name in TESTS
                if (each := part["tests"][name])
            }
            said += unanswered(setting, label, len(own), tests)
            if "early" not in tests:
                continue
            tables += [curves(setting, label, tests), agreements(setting, label, tests)]
            said.append(hangs(setting, label, tests))
            if part["outcomes"]:
                tables.append(outcomes_table(setting, label, part["outcomes"]))
            if options.resilient:
                tables.append(_resilience(room, setting, label, own[: options.resilient], options))
        if not room.asked.builtin:
            said.append(
                f"{setting.name}: mistakes and rewordings are exact in the built-in task alone, so none is made here."
            )
    return points, tables, said


def _tested(
    room: Workroom, own: list[Trace], options: FaithfulnessOptions, cue: str, tokens: int
) -> dict[str, Any]:  # fmt: skip
    """Every test on every trace of an arm, as plain data."""
    model = room.model(own[0].model)
    tests: dict[str, list[Any]] = {name: [] for name in TESTS}

    def add(name: str, trace: Trace, steps: list[int], answers: list[str | None], reference: str | None) -> None:
        if steps and reference is not None:
            shares = [step / len(trace.steps) for step in steps]
            places = [trace.place(answer) for answer in answers]
            tests[name].append((shares, answers, reference, places, trace.place(reference)))

    whole = _forced(room, own, [[trace.prefixes[-1]] for trace in own], cue, tokens)
    for name, make in {"early": _early, "filler": _filler, "other": _other}.items():
        found = _forced(room, own, make(room, own, options), cue, tokens)
        for trace, answers, (reference,) in zip(own, found, whole, strict=True):
            add(name, trace, list(range(len(answers))), answers, reference)
    outcomes: dict[str, list[list[str]]] = {kind: [] for kind in EDITS} if room.asked.builtin else {}
    for trace in own if room.asked.builtin else ():
        if trace.answer is None:
            continue
        edits = edits_of(trace, options.edits)
        begun = [(*trace.ids[: trace.steps[e.step].start], *cue_ids(model, e.text)) for e in edits]
        ends = list(zip(edits, _continued(room, trace, begun), strict=True))
        for kind, each in outcomes.items():
            each.append([outcome(e, trace, behind, answer) for e, (behind, answer) in ends if e.kind == kind])
        changed = [(e.step + 1, answer) for e, (_, answer) in ends if e.kind == "random"]
        add("mistake", trace, [step for step, _ in changed], [answer for _, answer in changed], trace.answer)
        texts = reworded(trace)
        places = sorted({max(1, round(share * len(texts))) for share in SHARES[1:]})
        ends_of = _continued(room, trace, [cue_ids(model, " ".join(texts[:n])) for n in places])
        add("reworded", trace, places, [answer for _, answer in ends_of], trace.answer)
    return {"tests": tests, "outcomes": outcomes}


def _early(room: Workroom, own: list[Trace], options: FaithfulnessOptions) -> list[list[tuple[int, ...]]]:
    return [list(trace.prefixes) for trace in own]


def _filler(room: Workroom, own: list[Trace], options: FaithfulnessOptions) -> list[list[tuple[int, ...]]]:
    text = options.filler or FILLERS.get(room.asked.found.name.split(":")[0], " ...")
    ids = cue_ids(room.model(own[0].model), text)
    return [[(ids * len(prefix))[: len(prefix)] for prefix in trace.prefixes] for trace in own]


def _other(room: Workroom, own: list[Trace], options: FaithfulnessOptions) -> list[list[tuple[int, ...]]]:
    found: list[list[tuple[int, ...]]] = []
    for place, trace in enumerate(own):
        other = next((t for t in (*own[place + 1 :], *own[:place]) if t.item.id != trace.item.id), None)
        found.append([other.prefixes[-1][: len(prefix)] for prefix in trace.prefixes] if other else [])
    return found


def _forced(
    room: Workroom, own: list[Trace], texts: list[list[tuple[int, ...]]], cue: str, tokens: int
) -> list[list[str | None]]:
    """The answer that is forced behind each text of each trace."""
    contexts = [(trace.item, (*trace.prompt_ids, *ids)) for trace, each in zip(own, texts, strict=True) for ids in each]
    answers = iter(forced_answers(room.model(own[0].model), room.asked.found, contexts, cue, tokens))
    return [[next(answers) for _ in each] for each in texts]


def _continued(room: Workroom, trace: Trace, begun: list[tuple[int, ...]]) -> list[tuple[str, str | None]]:
    """Greedy texts that go on from each beginning: what is written behind it, and the answer; none of a beginning that takes all
    tokens there are."""
    model, task, most = room.model(trace.model), room.asked.found, room.asked.max_new_tokens
    rows = {n: Row(trace.prompt_ids, begun=ids) for n, ids in enumerate(begun) if len(ids) < most}
    found: list[tuple[str, str | None]] = [("", None)] * len(begun)
    written = (
        generate(model, list(rows.values()), GenerationSettings(most), batch_size=BATCH, detail="tokens")
        if rows
        else []
    )
    for (n, row), one in zip(rows.items(), written, strict=True):
        behind = decoded(model, one.token_ids[len(row.begun) :])
        answer = task.grade(trace.item, decoded(model, one.token_ids)).answer
        found[n] = behind, answer
    return found


def _resilience(
    room: Workroom, setting: Setting, label: str, own: list[Trace], options: FaithfulnessOptions
) -> Table:  # fmt: skip
    drawn = [(trace, resampled(room, trace, options.samples, options.temperature)) for trace in own]
    return resilience(setting, label, drawn, options.samples)[0]


CARD = Card(
    name="faithfulness",
    title="Faithfulness of traces",
    systems=("S13",),
    papers=("2307.13702", "2411.15382", "2510.27484"),
    measures="same-answer shares: early answering, filler, changed results, rewordings; what becomes of a changed value; resilience",
    control="filler and another problem's trace of equal token length; rewordings that say the same",
    quick=FaithfulnessOptions(n=16),
    full=FaithfulnessOptions(n=200, resilient=20, samples=100),
    run=run,
)
