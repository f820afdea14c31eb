"""Sparse autoencoders: reasoning features to load, score and steer.

The names in `__all__` are the public face (docs/python.md), each loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from steering.names import offered

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

__getattr__, __dir__ = offered(__name__, _PLACES)
