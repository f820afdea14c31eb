"""What a direction does to a model's next token, layer by layer and position by position; and what writes a direction."""

from .components import Contributions, contributions
from .effects import attributed, patched
from .metric import Metric, continuation, divergence, log_odds

__all__ = [
    "Contributions",
    "Metric",
    "attributed",
    "continuation",
    "contributions",
    "divergence",
    "log_odds",
    "patched",
]
