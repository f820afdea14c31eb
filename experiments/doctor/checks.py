"""Whether the machinery is right on this machine, for this model: self-tests of hooks, cache and batches, each with its measured number.

1. Every check compares the engine with something written another way, or with itself in another arrangement. A check that a model cannot
   take is reported as not applicable, with the reason, and is not a pass.
2. Prompts are random tokens, so that any model can be examined; the direction is random, at the middle layer, half the activations' norm.
3. In float32 texts must be equal; in half precision low bits depend on the shape of a batch, so there numbers are compared within `LOOSE`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from steering.engine.generation import Row, check_invariant, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput, NeverFired
from steering.model.models import LoadedModel
from steering.model.sinks import body
from steering.plan.plan import Dose, Intervention, Plan, Span

from .subject import TOKENS, Subject

TIGHT, LOOSE = 1e-3, 0.25
"""Largest difference of log-probabilities, in nats, between two ways of computing them: in float32, and in half precision."""
RELATIVE = 1e-4
"""Largest relative error of an edit in float32; 3e-2 in half precision."""


@dataclass(frozen=True)
class Check:
    """One self-test."""

    name: str
    passed: bool | None
    """None where it does not apply."""
    measured: str
    means: str
    """What it would mean if it failed."""


def diagnose(model: LoadedModel) -> list[Check]:
    """Every self-test on a model. Nothing is raised for a failed one: it is in the list."""
    subject = Subject(model)
    found = []
    for name, means, examine in CHECKS:
        try:
            passed, measured = examine(subject)
        except Exception as error:
            passed, measured = False, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        found.append(Check(name, passed, measured, means))
    return found


Result = tuple[bool | None, str]


def _trial(s: Subject) -> Result:
    found = s.model.trial
    measured = ", ".join(f"{name} {difference:.1g}" for name, difference in found.differences)
    return found.failure is None, found.failure or f"largest difference of logits over their norm: {measured}"


def _round_trip(s: Subject) -> Result:
    texts = [s.model.tokenizer.decode(p, skip_special_tokens=True) for p in s.prompts]
    again = [s.model.tokenizer.decode(s.model.tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts]
    kept = sum(a.strip() == b.strip() for a, b in zip(texts, again, strict=True))
    if any("\ufffd" in text for text in texts) and kept < len(texts):
        return None, f"{kept} of {len(texts)} texts kept; random tokens of this vocabulary are not whole characters"
    return kept == len(texts), f"{kept} of {len(texts)} texts kept"


def _zero_dose(s: Subject) -> Result:
    ids = s.prompts[-1]
    bare, zero = (s.read(plan, ids, len(ids))[1] for plan in (Plan(), s.plan(0.0)))
    difference = float((bare - zero).abs().max())
    return torch.equal(bare, zero), f"largest difference of logits {difference:g}"


def _twice(s: Subject) -> Result:
    ids = s.prompts[-1]
    bare, double, twice = (s.read(plan, ids, len(ids))[0] for plan in (Plan(), s.plan(2.0), s.plan(1.0, 1.0)))
    error = float((twice - double).norm() / (double - bare).norm())
    return error < (3e-2 if s.half else RELATIVE), f"relative difference {error:.1g}"


def _places(s: Subject) -> Result:
    text, prompt = (*s.prompts[1], *s.prompts[0][1:]), len(s.prompts[1])
    bare = s.read(Plan(), text, prompt)[0]
    wanted = {
        "all": body(s.model, text),
        "prompt": range(body(s.model, text).start, prompt),
        "last_prompt": range(prompt - 1, prompt),
        "generated": range(prompt, len(text)),
    }
    delta = s.vector.direction.to(bare.device).float() * s.amount
    worst = 0.0
    for span, positions in wanted.items():
        change = s.read(s.plan(1.0, span=span), text, prompt)[0] - bare
        touched = [i for i in range(len(text)) if bool(change[i].any())]
        if touched != list(positions):
            return False, f"span {span}: positions {touched} were edited, {list(positions)} were asked for"
        worst = max(worst, float((change[touched] - delta).norm(dim=-1).max() / delta.norm()))
    return worst < (
        3e-2 if s.half else RELATIVE
    ), f"4 spans, positions as asked, relative error of the edit at most {worst:.1g}"


def _receipts(s: Subject) -> Result:
    (row,) = s.run([Row(s.prompts[1], s.plan(1.0, span="generated"))])
    prompt, fed = len(s.prompts[1]), len(s.prompts[1]) + len(row.token_ids) - 1
    right = (
        row.receipt.positions == tuple(range(prompt, fed)) and row.receipt.fired == row.receipt.planned == fed - prompt
    )
    return right, f"{row.receipt.fired} edits made, {row.receipt.planned} covered, {fed - prompt} asked for"


def _uncached(s: Subject) -> Result:
    plan = s.plan(1.0, span="generated")
    (row,) = s.run([Row(s.prompts[1], plan)])
    prompt, delta = len(s.prompts[1]), s.vector.direction * s.amount

    def steer(module: object, args: object, output: object) -> object:
        hidden = output if isinstance(output, Tensor) else output[0]  # type: ignore[index]
        edited = hidden.clone()
        edited[:, prompt:] += delta.to(hidden.device, hidden.dtype)
        return edited if isinstance(output, Tensor) else (edited, *output[1:])  # type: ignore[index]

    handle = s.model.layout.layers[s.site.layer].register_forward_hook(steer)
    worst, equal, ids = 0.0, 0, list(s.prompts[1])
    try:
        for token, logprob in zip(row.token_ids, row.logprob, strict=True):
            with torch.inference_mode():
                logits = s.model.model(input_ids=torch.tensor([ids], device=s.model.device), use_cache=False).logits[
                    0, -1
                ]
            own = logits.float().log_softmax(-1)
            equal += int(own.argmax()) == token
            worst = max(worst, abs(float(own[token]) - logprob))
            ids.append(token)
    finally:
        handle.remove()
    enough = equal == len(row.token_ids) or s.half
    return enough and worst < (LOOSE if s.half else TIGHT), (
        f"{equal} of {len(row.token_ids)} tokens equal, log-probabilities within {worst:.1g}"
    )


def _arrangements(s: Subject, settings: GenerationSettings) -> Result:
    rows = s.arranged()
    together, alone = s.run(rows, len(rows), settings), s.run(rows, 1, settings)
    backwards = s.run(rows[::-1], 4, settings)[::-1]
    same = sum(a.token_ids == b.token_ids == c.token_ids for a, b, c in zip(together, alone, backwards, strict=True))
    if s.half:
        return None, f"{same} of {len(rows)} texts the same; half precision depends on the shape of a batch"
    return same == len(rows), f"{same} of {len(rows)} texts the same alone, together, and in reverse order"


def _padded(s: Subject) -> Result:
    return _arrangements(s, s.settings)


def _sampled(s: Subject) -> Result:
    return _arrangements(s, GenerationSettings(TOKENS, temperature=1.0))


def _same_bits(s: Subject) -> Result:
    rows, settings = s.arranged(), GenerationSettings(TOKENS, temperature=1.0)
    try:
        check_invariant(s.model)
    except BadInput as error:
        return None, str(error)
    together, alone = s.run(rows, 1, settings, True), [s.run([row], 1, settings, True)[0] for row in rows]
    backwards = s.run(rows[::-1], 1, settings, True)[::-1]
    numbers = [[(g.token_ids, g.logprob) for g in found] for found in (together, alone, backwards)]
    same = sum(a == b == c for a, b, c in zip(*numbers, strict=True))
    return same == len(
        rows
    ), f"{same} of {len(rows)} sampled texts with the same bits alone, together, and in reverse order"


def _neighbour(s: Subject) -> Result:
    (bare,) = s.run([Row(s.prompts[0])])
    beside = s.run([Row(s.prompts[0]), Row(s.prompts[0], s.plan(4.0)), Row(s.prompts[2], s.plan(-4.0))])[0]
    worst = max((abs(a - b) for a, b in zip(bare.logprob, beside.logprob, strict=False)), default=0.0)
    same = bare.token_ids == beside.token_ids or s.half
    return same and worst < (
        LOOSE if s.half else TIGHT
    ) and beside.receipt.fired == 0, f"log-probabilities within {worst:.1g}"


def _repeated(s: Subject) -> Result:
    rows = [Row(p, s.plan(1.0, span="generated")) for p in s.prompts]
    runs = [[(g.token_ids, g.logprob) for g in s.run(rows)] for _ in range(3)]
    same = runs[0] == runs[1] == runs[2]
    return same, "three runs, the same tokens and the same bits" if same else "three runs differ"


def _hooks_left(s: Subject) -> Result:
    def count() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in s.model.model.modules())

    before = count()
    s.run([Row(s.prompts[0], s.plan(1.0))])
    calls: list[int] = []

    def interrupt() -> bool:
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return False

    try:
        generate(s.model, [Row(s.prompts[0], s.plan(1.0))], s.settings, cancel=interrupt)
    except KeyboardInterrupt:
        pass
    return count() == before, f"{before} hooks before, {count()} after a run and an interrupted one"


def _silent(s: Subject) -> Result:
    never = Plan((Intervention("add", s.vector, Span("after_n", n=TOKENS + 1), Dose(s.amount, "raw")),))
    try:
        s.run([Row(s.prompts[0], never)])
    except (NeverFired, BadInput) as error:
        return True, type(error).__name__
    return False, "a plan that cannot fire gave a text"


CHECKS: tuple[tuple[str, str, Callable[[Subject], Result]], ...] = (
    ("read as one row, in a batch, with a cache", "texts depend on the rows beside them: the model is refused at load", _trial),
    ("tokenizer round trip", "texts that are encoded again are other tokens", _round_trip),
    ("zero dose changes nothing", "the hooks alter the model by being there", _zero_dose),
    ("adding twice is twice", "an edit is lost, or made more than once", _twice),
    ("edits are where they were asked for", "steering acts at other tokens than the plan says", _places),
    ("receipts count the edits", "receipts cannot be trusted", _receipts),
    ("cache on equals cache off", "steered texts depend on the KV cache", _uncached),
    ("padded equals alone", "texts depend on the batch they ran in", _padded),
    ("samples do not depend on neighbours", "a sampled text cannot be reproduced alone", _sampled),
    ("batch-invariant mode gives the same bits", "rows cannot be compared to the last bit", _same_bits),
    ("an unsteered row beside steered ones", "steering leaks into the baseline", _neighbour),
    ("three runs are the same", "runs cannot be reproduced", _repeated),
    ("no hooks left", "a later, unsteered run would be steered", _hooks_left),
    ("a plan that cannot fire is an error", "an unsteered text would pass as a steered one", _silent),
)  # fmt: skip


def failed(checks: list[Check]) -> Iterator[Check]:
    """Those that failed."""
    return (check for check in checks if check.passed is False)
