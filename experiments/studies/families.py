"""Is there reasoning to elicit in a model? Task families, each asked directly and asked to think first.

1. Every family is a stored run of two arms on the same questions, greedy, with the paired difference and its interval; a second run holds
   k samples per question of some of them, for pass@k: what the model can reach at all.
2. Families are many, and the largest advantage of many is large by chance: p-values are Holm's over the families, and `helps` is said of a
   family whose interval lies above 0 and whose adjusted p is at most 0.05. What is built on a family uses other questions than chose it.
3. Answers that were cut off or could not be compared are counted beside the accuracy: thinking first may fail by not ending.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from steering.errors import BadInput
from steering.model.models import LoadedModel

from ..evaluation.evaluate import run_evaluation
from ..evaluation.loading import Loading, load
from ..evaluation.spec import EvalSpec, Generating
from ..evaluation.summarise import summary_of
from ..evaluation.summary import ArmSummary
from ..progress import progress, talk
from ..statistics import PassAtK, holm, pass_at_k
from ..statistics.shares import Interval
from ..store.runs import Arm, Run, Store
from ..tasks.remarks import called, say
from ..tasks.short import FAMILIES
from ..tasks.task import check_form, resolve_task

LEVEL = 0.05
DIRECT, THINK = "direct", "think"
EVERY = tuple(f"short:{name}" for name in FAMILIES)


@dataclass(frozen=True)
class Search:
    """What is asked, of which model."""

    model: str
    families: tuple[str | dict[str, Any], ...] = EVERY
    """Tasks that have both forms and the split."""
    direct: str = "chat-direct"
    think: str = "chat-think"
    split: str = "dev"
    n: int = 200
    """Questions per family, greedy."""
    sampled: int = 40
    """Of those, questions that are sampled for pass@k; 0 leaves it out."""
    k: int = 16
    temperature: float = 0.8
    max_new_tokens: int = 128
    loading: Loading | None = None
    called: tuple[str, ...] = ()
    """What each family is called; by default as its task is."""

    @property
    def names(self) -> list[str]:
        """What each family is called, all different: one that is called as one before it has its number among the families."""
        own = list(self.called) or [called(resolve_task(family)) for family in self.families]
        return [f"{name} (family {n})" if name in own[: n - 1] else name for n, name in enumerate(own, 1)]

    def check(self) -> None:
        """Raises BadInput for a family without the forms or the split, one that is named twice, one form for both sides, and samples that
        would be all alike; before a model is loaded."""
        if self.direct == self.think:
            raise BadInput(
                f"The form {self.direct} is both the direct one and the one that asks to think first; name two."
            )
        Generating(max_new_tokens=self.max_new_tokens, temperature=self.temperature)
        if self.sampled and self.temperature == 0:
            raise BadInput("Samples at temperature 0 are all alike; give a temperature above 0, or --sampled 0.")
        seen: dict[str, int] = {}
        for number, family in enumerate(self.families, 1):
            task = resolve_task(family)
            if (first := seen.setdefault(str((family, task.digest)), number)) != number:
                raise BadInput(f"Family {number} is family {first} again ({task.name}); name each once.")
            for form in (self.direct, self.think):
                check_form(task, form)
            task.items(self.split, self.n)


UNREAD = 0.2
"""Share of answers that could not be compared, on either side, from which on a difference may be one of format."""


@dataclass(frozen=True)
class Side:
    """One form on one family; shares in [0, 1]."""

    accuracy: float
    interval: Interval
    cut: float
    """Share of responses that were cut at the limit."""
    unscorable: float
    tokens: float
    passed: PassAtK | None


@dataclass(frozen=True)
class Family:
    """Direct beside think-first."""

    name: str
    n: int
    direct: Side
    think: Side
    advantage: float
    """Think-first minus direct."""
    interval: Interval
    p: float
    adjusted: float
    """Holm's over the families."""
    run: str

    @property
    def helps(self) -> bool:
        """Whether thinking first is better, all families considered."""
        return self.adjusted <= LEVEL and self.interval.low > 0

    @property
    def format(self) -> bool:
        """Whether so many answers could not be compared that the difference may be one of format."""
        return max(self.direct.unscorable, self.think.unscorable) > UNREAD


def search(spec: Search, store: Store, console: Console | None = None) -> list[Family]:
    """Every family, largest advantage first; runs that are complete are read, others go on. Raises BadInput before the model is loaded."""
    spec.check()
    console = console or talk()
    model = load(spec.model, spec.loading)
    for family in spec.families:
        task = resolve_task(family)
        asked = [(model, spec.direct), (model, spec.think)]
        say(task, {spec.split: task.items(spec.split, spec.n)}, asked, console)
    found = []
    for number, (family, name) in enumerate(zip(spec.families, spec.names, strict=True), 1):
        label = f"{name} ({number} of {len(spec.families)})"
        greedy = _run(
            spec, store, model, family, console, label, spec.n, Generating(max_new_tokens=spec.max_new_tokens)
        )
        sampled = None
        if spec.sampled:
            settings = Generating(
                max_new_tokens=spec.max_new_tokens, temperature=spec.temperature, seeds=tuple(range(spec.k))
            )
            label = f"{label}, {spec.k} samples"
            sampled = _run(spec, store, model, family, console, label, min(spec.sampled, spec.n), settings)
        found.append((name, greedy, sampled))
    return sorted(_families(spec, found), key=lambda one: (-one.advantage, one.name))


def _run(
    spec: Search,
    store: Store,
    model: LoadedModel,
    family: str | dict[str, Any],
    console: Console,
    label: str,
    n: int,
    settings: Generating,
) -> Run:
    arms = (
        Arm(name=DIRECT, label="asked directly", role="baseline", model=spec.model, form=spec.direct),
        Arm(name=THINK, label="asked to think first", role="prompt", model=spec.model, form=spec.think),
    )
    kind = "sampled" if settings.temperature else "greedy"
    asked = EvalSpec(
        name=f"families-{kind}",
        task=family,
        splits={spec.split: n},
        arms=arms,
        generation=settings,
        loading=spec.loading,
    )
    with progress(label, console) as report:
        return run_evaluation(asked, store, models={spec.model: model}, on_rows=report)


def _families(spec: Search, found: Sequence[tuple[str, Run, Run | None]]) -> list[Family]:
    compared = []
    for name, greedy, sampled in found:
        part = summary_of(greedy).splits[0]
        versus = part.arm(THINK).versus_baseline
        assert versus is not None
        compared.append((name, greedy, sampled, part, versus))
    adjusted = holm([versus.p for *_, versus in compared])
    return [
        Family(
            name, versus.n, _side(part.arm(DIRECT), sampled, spec.k), _side(part.arm(THINK), sampled, spec.k),
            versus.difference, versus.interval, versus.p, own, greedy.folder.name,
        )
        for (name, greedy, sampled, part, versus), own in zip(compared, adjusted, strict=True)
    ]  # fmt: skip


def _side(arm: ArmSummary, sampled: Run | None, k: int) -> Side:
    passed = None
    if sampled is not None:
        rows = sampled.table(columns=["item", "correct"], arms=[arm.name]).to_pandas().groupby("item")["correct"]
        passed = pass_at_k(rows.sum().astype(int).to_numpy(), rows.size().to_numpy(), k)
    share = arm.accuracy
    assert share is not None and arm.mean_tokens is not None
    return Side(share.value, share.interval, arm.truncated / arm.n, arm.unscorable / arm.n, arm.mean_tokens, passed)
