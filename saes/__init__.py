"""Sparse autoencoders: reasoning features to load, score and steer.

The names in `__all__` are the public face (docs/python.md), each loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dashboard import build_dashboard
    from .dictionary import Dictionary
    from .latents import features_of
    from .loading import load_dictionary
    from .reason_score import reason_scores
    from .scores import score_table
    from .sentences import SentenceSAE
    from .statistics import LatentStatistics, latent_statistics, matched
    from .training import TrainingSpec, train_sae

_PLACES = {
    "load_dictionary": ".loading",
    "Dictionary": ".dictionary",
    "features_of": ".latents",
    "TrainingSpec": ".training",
    "train_sae": ".training",
    "score_table": ".scores",
    "LatentStatistics": ".statistics",
    "latent_statistics": ".statistics",
    "matched": ".statistics",
    "reason_scores": ".reason_score",
    "SentenceSAE": ".sentences",
    "build_dashboard": ".dashboard",
}
__all__ = [
    "Dictionary",
    "LatentStatistics",
    "SentenceSAE",
    "TrainingSpec",
    "build_dashboard",
    "features_of",
    "latent_statistics",
    "load_dictionary",
    "matched",
    "reason_scores",
    "score_table",
    "train_sae",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
