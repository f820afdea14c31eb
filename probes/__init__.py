"""Probes: behaviour labels and controllers that decide when to reason.

The names in `__all__` are the public face (docs/python.md), each loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from steering.names import offered

if TYPE_CHECKING:
    from .evaluation import Evaluation, evaluate
    from .exchange import pull_probe, push_probe
    from .fitting import Fitted, fit
    from .forks import Forks, find_forks
    from .labels import BehaviourLabel
    from .lexicon import lexicon_labels
    from .probe import Probe
    from .samples import Samples
    from .targets import Examples, next_behaviour

_PLACES = {
    "Probe": ".probe",
    "pull_probe": ".exchange",
    "push_probe": ".exchange",
    "Fitted": ".fitting",
    "fit": ".fitting",
    "Evaluation": ".evaluation",
    "evaluate": ".evaluation",
    "Samples": ".samples",
    "BehaviourLabel": ".labels",
    "lexicon_labels": ".lexicon",
    "Forks": ".forks",
    "find_forks": ".forks",
    "Examples": ".targets",
    "next_behaviour": ".targets",
}
__all__ = [
    "BehaviourLabel",
    "Evaluation",
    "Examples",
    "Fitted",
    "Forks",
    "Probe",
    "Samples",
    "evaluate",
    "find_forks",
    "fit",
    "lexicon_labels",
    "next_behaviour",
    "pull_probe",
    "push_probe",
]

__getattr__, __dir__ = offered(__name__, _PLACES)
