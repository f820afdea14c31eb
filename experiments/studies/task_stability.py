"""Is a behaviour decided where its label begins, on any task? Labels are the lexicon's, before and after the cut."""

from __future__ import annotations

from typing import Any

from probes.lexicon import BEHAVIOURS, lexicon_labels
from probes.stability import Boundary, in_text
from steering.errors import BadInput, unknown
from steering.model.models import load_model

from .asking import Asking
from .probing import resampled
from .task_texts import labels_of, responses


def task_stability(
    model: str, behaviour: str, asking: Asking, form: str, problems: int, samples: int, spans: int, seed: int = 0
) -> dict[str, Any]:
    """Resample before spans of the lexicon's label in sampled responses to a task's questions in a form. Plain data.

    Raises BadInput for a behaviour that the lexicon does not know, before the model is loaded, and where no span has the label, naming
    those that occur.
    """
    if behaviour not in BEHAVIOURS:
        raise unknown("behaviour", behaviour, BEHAVIOURS)
    loaded = load_model(model)
    asking.say([loaded], problems)
    made = responses(loaded, asking, asking.questions(problems), (form,))
    names = sorted({label.label for answer in made for label in answer.labels})
    if not names:
        raise BadInput(
            f"{len(made)} responses of {model} to {asking.found.name} hold no sentence; read more questions."
        )
    if behaviour not in names:
        raise BadInput(
            f"{behaviour} does not occur in the {len(made)} responses of {model} to {asking.found.name}, by the {labels_of(asking)}; "
            f"{', '.join(names)} {'do' if len(names) > 1 else 'does'}. Read more questions, or name one that occurs."
        )
    first = in_text(loaded, lexicon_labels)
    chosen = [
        (i, Boundary(answer.prompt_ids, answer.token_ids, label), first)
        for i, answer in enumerate(made)
        for label in answer.labels
        if label.label == behaviour
    ]
    return resampled(loaded, behaviour, labels_of(asking), chosen[:spans], samples, seed)
