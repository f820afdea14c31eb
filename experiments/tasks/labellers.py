"""Who labels the sentences of texts without exact labels: the lexicon, or a trained labeller's file. Both err; labels carry the name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from probes.labels import BehaviourLabel
from probes.lexicon import DETECTOR, lexicon_labels
from probes.sentence_classifier import SentenceClassifier
from steering.errors import BadInput

LEXICON = "lexicon"


@dataclass(frozen=True)
class Labeller:
    """A detector of behaviours in texts."""

    detector: str
    """What its labels are signed with; of a trained labeller with its digest."""
    label: Callable[[str], tuple[BehaviourLabel, ...]]
    """Labels of a text, one per sentence, in characters."""


def labeller_named(name: str) -> Labeller:
    """`lexicon`, or the file of a trained labeller (`steer probe labellers --out`). Raises BadInput for anything else."""
    if name == LEXICON:
        return Labeller(DETECTOR, lexicon_labels)
    if not Path(name).is_file():
        raise BadInput(
            f"Labeller {name!r}: say lexicon, or name the file of a trained labeller (steer probe labellers --out labeller.joblib)."
        )
    trained = SentenceClassifier.load(name)
    return Labeller(trained.detector, trained.label)
