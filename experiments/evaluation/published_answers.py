"""Published per-problem answers as stored runs, graded anew.

1. A file of answers (`tasks`: question, right answer, and the texts of base, thinking and hybrid model; `results`: accuracies as judged by
   the authors) becomes one run. Arms are the texts that are there; a file of hybrid texts alone, as of controls, is one arm.
2. Several files become one run where their questions overlap: an arm per file and text, on the questions of the arm that has the role of
   the baseline. A file whose name says `bias-only`, `random-vectors` or the like gives arms of the role `control`.
3. The verdicts are the grader's. What the authors' judge counted stands beside them and changes nothing (`Agreement`).
4. Where some text of an arm closes a thinking segment that it does not open, the prompts opened it: its texts that never close it have no
   answer.
5. Rows say what is known: texts, answers, verdicts. There are no token ids, probabilities or edits, so those lists are empty; whether a
   text was cut at its limit is not recorded, and is told from its end.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steering.errors import BadInput
from steering.model.thinking import begun_before

from ..statistics import Interval, wilson
from ..store.runs import Arm, Manifest, Run, Store
from ..tasks.graders.final import final_answer, finished
from ..tasks.graders.grade import Grade, Grader, Known
from ..tasks.graders.mathematics import MathGrader

TEXTS = {"base_model": "base", "thinking_model": "thinking", "hybrid_model": "hybrid"}
CONTROLS = ("bias-only", "random-vectors", "random-firing", "random-category", "random-positions")
SPLIT = "published"


@dataclass(frozen=True)
class Answers:
    """One file: its name, models, questions with right answers, and per text its answers and the published counts."""

    path: Path
    base: str
    thinking: str
    questions: tuple[tuple[str, str], ...]
    texts: dict[str, tuple[str, ...]]
    published: dict[str, float]
    """Accuracy per text as the authors' judge counted it, in [0, 1]."""

    @property
    def control(self) -> str | None:
        """What the file is a control of, by its name."""
        return next((c for c in CONTROLS if c in self.path.stem), None)

    @property
    def short(self) -> str:
        return re.sub(r"^hybrid_answers_", "", self.path.stem)


@dataclass(frozen=True)
class Agreement:
    """Accuracy of one arm as graded here and as published, over the file's own questions."""

    file: str
    arm: str
    n: int
    graded: float
    interval: Interval
    published: float
    unscorable: int
    cut: int
    """Texts that break off."""
    cut_without_answer: int
    """Of those, texts that hold no boxed or announced answer: what they say last is all there is to grade."""
    unclosed: int = 0
    """Texts that end inside their thinking segment: they have no answer."""
    lenient: int = 0
    """Of those, texts that would be right if what they say there were read as an answer."""

    @property
    def difference(self) -> float:
        """Graded minus published."""
        return self.graded - self.published

    @property
    def attainable(self) -> bool:
        """Whether a grader of final answers can reach the published count: more texts end with an answer than were counted right."""
        return self.n - self.cut_without_answer >= self.published * self.n


def read_answers(path: Path) -> Answers:
    """Raises BadInput, naming the place, for a file of another form."""
    if not path.is_file():
        raise BadInput(f"There is no file {path}.")
    try:
        data = json.loads(path.read_text("utf-8"))
        tasks, meta = data["tasks"], data["metadata"]
        questions = tuple((str(t["question"]), str(t["correct_answer"])) for t in tasks)
        given = {k: tuple(str(t["model_answers"].get(k) or "") for t in tasks) for k in TEXTS}
        accuracy = data["results"]["accuracy"]
        base, thinking = str(meta["base_model"]), str(meta["thinking_model"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path} is no file of published answers ({type(error).__name__}: {error}). It holds `metadata`, `results.accuracy` and "
            f"`tasks`, each task with `question`, `correct_answer` and `model_answers`."
        ) from error
    texts = {k: v for k, v in given.items() if any(v)}
    if not tasks or not texts:
        raise BadInput(f"{path} holds no answers.")
    return Answers(path, base, thinking, questions, texts, {k: float(accuracy.get(k, 0.0)) / 100 for k in texts})


def import_answers(
    store: Store,
    paths: Sequence[Path],
    *,
    grader: Grader | None = None,
    name: str = "published",
    on_rows: Callable[[int, int], None] | None = None,
) -> tuple[Run, list[Agreement]]:
    """One run of all files, and how the verdicts compare with the published counts. Raises BadInput for files that share no question."""
    from .summarise import summarise
    from .summary import to_json

    grader = grader or MathGrader()
    files = [read_answers(path) for path in paths]
    if not files:
        raise BadInput("Name at least one file of published answers.")
    plan = _arms(files)
    shared = set(plan[0][1].questions)
    for arm, file, _ in plan[1:]:
        if not shared & set(file.questions):
            raise BadInput(
                f"{file.path} shares no question with {plan[0][1].path}: arm {arm.name!r} has nothing to be compared with."
            )
    items = {q: i for i, q in enumerate(dict.fromkeys(q for _, file, _ in plan for q in file.questions))}
    content = [[f.short, k, f.questions, f.texts[k]] for _, f, k in plan]
    digest = hashlib.sha256(json.dumps([content, grader.facts], sort_keys=True).encode()).hexdigest()
    manifest = Manifest(
        run_id=f"{name}-{digest[:10]}",
        name=name,
        spec={"published": [f.path.name for f in files], "grader": grader.facts},
        arms=[arm for arm, _, _ in plan],
        splits={SPLIT: len(items)},
        facts={"published": {arm.name: {"accuracy": f.published[k], "n": len(f.questions)} for arm, f, k in plan}},
    )
    run = store.create(manifest)
    total, done, agreements, stored = sum(len(f.questions) for _, f, _ in plan), 0, [], run.keys(drop_corrupt=True)
    for arm, file, key in plan:
        rows, known = [], Known(opened=begun_before(file.texts[key]))
        for question, text in zip(file.questions, file.texts[key], strict=True):
            grade = grader.grade(question[0], question[1], text, known)
            rows.append(_row(digest, arm, items[question], question, text, grade))
            done += 1
            if on_rows is not None:
                on_rows(done, total)
        if any(row["key"] not in stored for row in rows):
            run.write(rows)
        agreements.append(_agreement(file, arm, key, rows))
    run.write_summary(json.loads(to_json(summarise(run.table(), run.manifest))))
    run.set_status("complete")
    return run, agreements


def _arms(files: Sequence[Answers]) -> list[tuple[Arm, Answers, str]]:
    """Every arm with its file and text; the baseline is the first base text, else the first hybrid text."""
    every = [(file, key) for file in files for key in file.texts]
    first = next(((f, k) for f, k in every if k == "base_model"), every[0])
    reference = next(((f, k) for f, k in every if k == "thinking_model"), None)
    plan = []
    for file, key in [first, *(e for e in every if e != first)]:
        role = "steered"
        if (file, key) == first:
            role = "baseline"
        elif file.control is not None:
            role = "control"
        elif key != "hybrid_model":
            role = "reference" if (file, key) == reference else "prompt"
        what = TEXTS[key] if file.control is None or key != "hybrid_model" else f"hybrid, {file.control}"
        label = what if len(files) == 1 else f"{what} ({file.short})"
        model = file.thinking if key == "thinking_model" else file.base
        arm = Arm(
            name=f"{TEXTS[key]}:{file.short}", label=label, role=role, model=model, form="as published",  # type: ignore[arg-type]
            description=f"Published text of {model}{f' with {file.thinking}' if key == 'hybrid_model' else ''}.",
        )  # fmt: skip
        plan.append((arm, file, key))
    return plan


def _row(digest: str, arm: Arm, order: int, question: tuple[str, str], text: str, grade: Grade) -> dict[str, Any]:
    item = hashlib.sha256(json.dumps(question).encode()).hexdigest()[:12]
    key = hashlib.sha256(json.dumps([digest, arm.name, item]).encode()).hexdigest()[:32]
    cut = bool(text.strip()) and not finished(text)
    lists = (
        "prompt_ids",
        "token_ids",
        "prompt_tokens",
        "tokens",
        "logprob",
        "entropy",
        "top_ids",
        "top_tokens",
        "top_logprob",
    )
    return {
        "key": key, "arm": arm.name, "split": SPLIT, "item": item, "order": order, "seed": 0, "prompt": question[0],
        "gold": question[1], "text": text, "answer": grade.answer, "correct": grade.correct, "scorable": grade.scorable,
        "truncated": cut, "trace_ok": None, "well_formed": None, "finish": "length" if cut else "eos",
        **{name: [] for name in lists}, "edit_ratio": [], "edits_planned": 0, "edits_fired": 0, "labels": [],
        "unclosed": grade.unclosed, "lenient": grade.lenient,
    }  # fmt: skip


def _agreement(file: Answers, arm: Arm, key: str, rows: Sequence[dict[str, Any]]) -> Agreement:
    right, cut = sum(r["correct"] for r in rows), [r for r in rows if r["truncated"]]
    without = sum(final_answer(r["text"], lenient=True).how not in ("boxed", "after ####", "announced") for r in cut)
    return Agreement(
        file.path.name, arm.name, len(rows), right / len(rows), wilson(right, len(rows)), file.published[key],
        sum(not r["scorable"] for r in rows), len(cut), without, sum(r["unclosed"] for r in rows),
        sum(bool(r["lenient"]) for r in rows),
    )  # fmt: skip
