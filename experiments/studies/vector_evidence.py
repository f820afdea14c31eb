"""What a stored run shows of a vector, or of a plan, as evidence for a repository of it.

1. Every arm whose plan uses the vector's digest is an effect per split, in the manifest's order, whatever it shows; nothing is chosen.
2. Numbers are those of the run's summary: accuracy with its interval, the paired difference from the baseline with its interval, random
   controls with their rank, tokens, and how many rows were cut or not gradable.
3. The wrong sign of an arm is the arm with the same plan and every amount negated. Where none was run, none is named.
4. Sentences on whether the vector is just a word are those of the store's audits.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from steering.errors import BadInput, listed
from steering.plan.dose import SUFFIXES
from steering.plan.plan import Plan, digest_of
from steering.vector.hub.evidence import Difference, Effect, Evidence, RandomControls, WrongSign
from steering.vector.vectors import SteeringVector

from ..evaluation.summarise import summary_of
from ..evaluation.summary import ArmSummary, Beyond, Comparison, SplitSummary
from ..statistics import Interval
from ..store.files import StoreError
from ..store.manifest import Arm, Manifest
from ..store.runs import Run, Store
from ..store.seal import BAD, verified
from ..sweeps.cells import CARD as SWEEP
from ..sweeps.cells import is_test
from ..sweeps.verdict import of_test
from ..tasks.datasets import FILES
from ..tasks.graders.table import GRADERS
from .elicitation.findings import audits_of, stored_findings

FEW_ANSWERS = 3
"""Right answers that are named, at most."""
SHORT = 40
"""Characters of a right answer that is named, at most: a longer one is a text of its own."""


def run_evidence(store: Store, run_id: str, vector: SteeringVector) -> Evidence:
    """The evidence of one stored run. Raises BadInput for a run that does not use the vector or has no rows of it, StoreError for one that
    cannot be read."""
    run = store.open(run_id)
    arms = arms_with(run.manifest, vector.digest)
    if not arms:
        used = sorted({digest for arm in run.manifest.arms if arm.role == "steered" for digest in _used(arm.plan)})
        raise BadInput(
            f"No arm of run {run_id} uses vector {vector.digest} ({vector.name!r}); its steered arms use {listed(used) or 'none'}. Name a "
            "run whose plan holds this vector, or leave the run out."
        )
    said = audits_of(stored_findings(store)[0], vector.digest)
    return Evidence(
        vector=vector.digest,
        effects=_effects(run, arms, f"vector {vector.digest}"),
        word_audit=tuple(said),
        remarks=_remarks(run),
    )


def plan_evidence(store: Store, run_id: str, plan: Plan) -> Evidence:
    """The evidence of one stored run for a plan: every arm that has exactly this plan. Raises BadInput for a run without one, or without
    rows of it, StoreError for one that cannot be read."""
    run = store.open(run_id)
    arms = [arm for arm in run.manifest.arms if arm.plan and digest_of(arm.plan) == plan.digest]
    if not arms:
        there = [
            f"{arm.name} ({digest_of(arm.plan)})" for arm in run.manifest.arms if arm.plan and arm.role == "steered"
        ]
        raise BadInput(
            f"No arm of run {run_id} has plan {plan.digest}; its steered arms are {listed(there) or 'none'}. Name a run of this very plan, "
            "or leave the run out."
        )
    return Evidence(vector=plan.digest, effects=_effects(run, arms, f"plan {plan.digest}"), remarks=_remarks(run))


def _remarks(run: Run) -> tuple[str, ...]:
    """Of a sweep: that its development run chose among its cells by these very questions; or the verdict of the run that tested one."""
    if not (run.folder / SWEEP).is_file():
        return ()
    if is_test(run):
        verdict = of_test(run)
        labels = {arm.name: arm.label for arm in run.manifest.arms}
        label = labels.get(verdict.cell or "", verdict.cell)
        said = verdict.sentence.replace(f"{verdict.cell} is ", f"{label} is ", 1)
        return (f"The sweep's verdict on its cell: {said}",)
    return (
        f"{run.manifest.run_id} is the development run of a sweep: its questions chose among its cells, so that these numbers look better "
        "than they are. The run of the same sweep on other questions says how large the effect is.",
    )


def _effects(run: Run, arms: Sequence[Arm], what: str) -> tuple[Effect, ...]:
    if wrong := [one for one in verified(run.folder) if one.status in BAD]:
        raise StoreError(f"Run {run.manifest.run_id} does not verify, so it is no evidence: {wrong[0].problem}")
    summary = summary_of(run)
    effects = tuple(
        _effect(run, part, arm, found, summary.level)
        for part in summary.splits
        for arm in arms
        if (found := part.arm(arm.name)).accuracy is not None
    )
    if not effects:
        raise BadInput(f"Run {run.manifest.run_id} has no graded rows of an arm with {what}: let it run first.")
    return effects


def arms_with(manifest: Manifest, digest: str) -> list[Arm]:
    """Arms whose plan edits by, or gates on, the vector of that digest."""
    return [arm for arm in manifest.arms if digest in _used(arm.plan)]


def plan_of(manifest: Manifest, digest: str) -> dict[str, Any] | None:
    """The plan of the first steered arm that uses this vector and no other; None where there is none."""
    for arm in arms_with(manifest, digest):
        if arm.role == "steered" and _used(arm.plan) == {digest}:
            return arm.plan
    return None


def tokenizer_of(manifest: Manifest, digest: str) -> str | None:
    """Hash of the tokenizer that the arms with the vector were fed by; None where the run does not say, or feeds several."""
    return _tokenizer(manifest, arms_with(manifest, digest))


def plan_tokenizer(manifest: Manifest, plan: Plan) -> str | None:
    """Hash of the tokenizer that the arms with this very plan were fed by; None where the run does not say, or feeds several."""
    return _tokenizer(manifest, [arm for arm in manifest.arms if arm.plan and digest_of(arm.plan) == plan.digest])


def _tokenizer(manifest: Manifest, arms: Sequence[Arm]) -> str | None:
    known = manifest.facts.get("tokenizers", {})
    found = {known.get(arm.model) for arm in arms}
    return found.pop() if len(found) == 1 else None


def _used(plan: Mapping[str, Any] | None) -> set[str]:
    found = set()
    for entry in (plan or {}).get("interventions", []):
        found |= {part["vector"] for part in (entry, entry.get("gate") or {}) if "vector" in part}
    return found


def _effect(run: Run, part: SplitSummary, arm: Arm, found: ArmSummary, level: float) -> Effect:
    assert found.accuracy is not None
    baseline = part.arm(run.manifest.baseline.name).accuracy
    versus, generation = found.versus_baseline, run.manifest.spec.get("generation", {})
    return Effect(
        run=run.manifest.run_id,
        split=part.split,
        arm=arm.label,
        role=arm.role,
        plan=_line(arm.plan),
        model=arm.model,
        task=", ".join(filter(None, [_task(run.manifest), _right(run)])),
        new_tokens=generation.get("max_new_tokens"),
        temperature=generation.get("temperature"),
        top_k=generation.get("top_k"),
        top_p=generation.get("top_p"),
        n=found.n,
        level=level,
        accuracy=found.accuracy.value,
        low=found.accuracy.interval.low,
        high=found.accuracy.interval.high,
        baseline=None if baseline is None else baseline.value,
        difference=_difference(versus),
        controls=_controls(found.beyond),
        wrong_sign=_wrong_sign(run.manifest, part, arm),
        tokens=found.mean_tokens,
        token_difference=None if versus is None else versus.token_difference,
        truncated=found.truncated,
        unscorable=found.unscorable,
    )


def _difference(versus: Comparison | None) -> Difference | None:
    if versus is None or not versus.n:
        return None  # no question that both answered
    return _finite(versus.difference, versus.interval, versus.p)


def _controls(beyond: Beyond | None) -> RandomControls | None:
    if beyond is None:
        return None
    return RandomControls(
        kind=beyond.kind,
        count=beyond.count,
        as_good=beyond.as_good,
        rank_p=beyond.rank_p,
        matched=beyond.matched,
        difference=_finite(beyond.difference, beyond.interval),
        lowest=_share(beyond.low),
        highest=_share(beyond.high),
        few=beyond.few,
    )


def _share(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _finite(value: float, interval: Interval, p: float | None = None) -> Difference | None:
    """A difference, or None where it has no interval."""
    if not all(map(math.isfinite, (value, interval.low, interval.high))):
        return None
    return Difference(value=value, low=interval.low, high=interval.high, p=p)


def _wrong_sign(manifest: Manifest, part: SplitSummary, arm: Arm) -> WrongSign | None:
    wanted = _negated(arm.plan)
    for other in manifest.arms:
        if wanted is None or other.name == arm.name or _bare(other.plan) != wanted:
            continue
        found = part.arm(other.name)
        if (other.model, other.form, other.opening) == (arm.model, arm.form, arm.opening) and found.n:
            return WrongSign(arm=other.label, n=found.n, difference=_difference(found.versus_baseline))
    return None


def _bare(plan: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """A plan's steps without what vectors are called."""
    return [
        {key: value for key, value in entry.items() if key != "vector_name"}
        for entry in (plan or {}).get("interventions", [])
    ]


def _negated(plan: Mapping[str, Any] | None) -> list[dict[str, Any]] | None:
    """The plan's steps with every amount negated; None where a step is no addition."""
    steps = _bare(plan)
    if not steps or any(entry.get("operation") != "add" or not isinstance(entry.get("dose"), dict) for entry in steps):
        return None
    return [{**entry, "dose": {**entry["dose"], "amount": -entry["dose"]["amount"]}} for entry in steps]


def _line(plan: Mapping[str, Any] | None) -> str:
    return "; ".join(_words(entry) for entry in (plan or {}).get("interventions", []))


def _words(entry: Mapping[str, Any]) -> str:
    dose, site = entry.get("dose"), entry.get("site")
    words = [str(entry["operation"])]
    if isinstance(dose, Mapping):
        suffix = next((short for short, unit in SUFFIXES.items() if unit == dose.get("unit", "vector")), "")
        schedule = f"~{dose['schedule']}" if dose.get("schedule") else ""
        words.append(f"{dose['amount']:g}{suffix}{schedule}")
    if site:
        words.append(f"at {site if isinstance(site, str) else ', '.join(site)}")
    words.append(f"on {entry['span']}")
    gate = entry.get("gate")
    if isinstance(gate, Mapping):
        words.append(f"when {gate['kind']} {'<' if gate.get('below') else '>'} {gate.get('threshold', 0):g}")
    return " ".join(words)


def _task(manifest: Manifest) -> str:
    task = manifest.spec.get("task")
    if not isinstance(task, Mapping):
        return str(task or "")
    named = str(task.get("dataset") or task.get("name") or "")
    words = [PurePath(named).name if named.endswith(FILES) else named]  # a file's folder is nobody else's business
    if grader := task.get("grader"):
        words.append(
            f"graded by {grader if isinstance(grader, str) else json.dumps(grader, sort_keys=True)}{_asks(grader)}"
        )
        words += [f"against the field {task['answer']}"] if task.get("answer") else []
    return ", ".join(filter(None, words))


def _right(run: Run) -> str:
    """What counts as right, where that is one of a few answers."""
    golds = sorted({str(gold) for gold in run.table(["gold"])["gold"].to_pylist() if gold})
    short = all(len(gold) <= SHORT for gold in golds)
    return f"right is {listed(golds)}" if short and 0 < len(golds) <= FEW_ANSWERS else ""


def _asks(grader: Any) -> str:
    """What a grader asks of a text, in brackets: the first line of its own description."""
    kind = GRADERS.get(str(grader.get("name")) if isinstance(grader, Mapping) else str(grader))
    if kind is None:
        return ""
    alone = sum(other.__module__ == kind.__module__ for other in GRADERS.values()) == 1
    text = sys.modules[kind.__module__].__doc__ if alone else kind.__doc__
    described = (text or "").partition("\n")[0].rstrip(".")
    return f" ({described[:1].lower()}{described[1:]})" if described else ""
