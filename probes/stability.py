"""Is a behaviour really decided where its label begins? Cut there, continue many times, and see how often it comes back.

1. The trace is cut at the token before which the labelled span begins; n continuations are sampled from there, each with its own seed.
2. Each continuation's first sentence is labelled by the labeller given, in the context of the text before it; the share that has the span's
   label stands with its Wilson interval. A continuation whose beginning carries no label counts as not kept, and is counted.
3. A low share says that the label is not fixed by the text before it; a high share says nothing of why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scipy.stats import binomtest

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.extraction.separability import CONFIDENCE, Interval
from steering.model.models import LoadedModel
from steering.plan.plan import Plan

from .labels import BehaviourLabel
from .sentences import sentences

Labeller = Callable[[str], Sequence[BehaviourLabel]]
"""From a text to labels in characters."""
FirstLabel = Callable[[tuple[int, ...], tuple[int, ...]], str | None]
"""From (ids of the response before the cut, ids of the continuation) to the label that begins at the cut."""


@dataclass(frozen=True)
class Boundary:
    """A labelled span of a response, and the tokens around it."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    label: BehaviourLabel
    """In tokens of the response."""

    def __post_init__(self) -> None:
        if self.label.unit != "tokens":
            raise BadInput("A boundary needs its label in tokens; convert it with in_tokens.")
        if self.label.start >= len(self.token_ids):
            raise BadInput(
                f"The label begins at token {self.label.start} of a response of {len(self.token_ids)} tokens."
            )

    @property
    def before(self) -> tuple[int, ...]:
        """The response up to the cut."""
        return self.token_ids[: self.label.start]


@dataclass(frozen=True)
class Stability:
    """How often the label came back."""

    label: str
    detector: str
    """Of the label that was tested."""
    kept: int
    n: int
    share: Interval
    found: dict[str, int] = field(default_factory=dict)
    """Continuations by the label of their first sentence; `none` where it has none."""


def stability(
    model: LoadedModel,
    boundaries: Sequence[Boundary],
    first_label: FirstLabel,
    *,
    n: int = 20,
    temperature: float = 1.0,
    max_new_tokens: int = 48,
    plan: Plan | None = None,
    seed: int = 0,
    batch_size: int = 64,
) -> list[Stability]:
    """Resample every boundary n times. Raises BadInput for n below 1, temperature 0 (all continuations would be equal), or no room
    in the context."""
    if n < 1 or temperature <= 0:
        raise BadInput(f"Resampling needs n of at least 1 and a temperature above 0, not {n} and {temperature}.")
    rows = [
        Row((*b.prompt_ids, *b.before), plan or Plan(), seed=seed + 10_000 * i + k)
        for i, b in enumerate(boundaries)
        for k in range(n)
    ]
    settings = GenerationSettings(max_new_tokens, temperature=temperature)
    made = generate(model, rows, settings, batch_size=batch_size, detail="tokens") if rows else []
    results = []
    for i, boundary in enumerate(boundaries):
        found = Counter(
            first_label(boundary.before, tuple(t for t in g.token_ids if t not in model.eos_ids)) or "none"
            for g in made[i * n : (i + 1) * n]
        )
        kept = found[boundary.label.label]
        results.append(
            Stability(
                boundary.label.label, boundary.label.detector, kept, n, wilson(kept, n), dict(found.most_common())
            )
        )
    return results


def in_text(model: LoadedModel, labeller: Labeller) -> FirstLabel:
    """A labeller of texts at the cut: it reads the text before and the continuation, and its label there is taken."""

    def first(before: tuple[int, ...], continuation: tuple[int, ...]) -> str | None:
        head = model.tokenizer.decode(list(before))
        text = model.tokenizer.decode([*before, *continuation])
        start = len(head)
        rest = sentences(text[start:])
        if not rest:
            return None
        opening = start + rest[0].start
        inside = [label for label in labeller(text) if label.start <= opening < label.end]
        return inside[0].label if inside else None

    return first


def wilson(successes: int, n: int) -> Interval:
    """A share with its Wilson score interval."""
    found = binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(successes / n, float(found.low), float(found.high))
