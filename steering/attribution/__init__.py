"""What a direction does to a model's next token, layer by layer and position by position; what writes a direction; which parts of a
text matter to which."""

from .components import Contributions, contributions
from .effects import attributed, measured, patched, replaced
from .metric import Metric, continuation, distance, divergence, log_odds
from .receiving import attention_between
from .suppression import suppressed_divergence

__all__ = [
    "Contributions",
    "Metric",
    "attention_between",
    "attributed",
    "continuation",
    "contributions",
    "distance",
    "divergence",
    "log_odds",
    "measured",
    "patched",
    "replaced",
    "suppressed_divergence",
]
