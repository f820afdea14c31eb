"""What a direction does to a model's next token, layer by layer and position by position; and what writes a direction."""

from .components import Contributions, contributions
from .effects import attributed, measured, patched, replaced
from .metric import Metric, continuation, distance, divergence, log_odds

__all__ = [
    "Contributions",
    "Metric",
    "attributed",
    "continuation",
    "contributions",
    "distance",
    "divergence",
    "log_odds",
    "measured",
    "patched",
    "replaced",
]
