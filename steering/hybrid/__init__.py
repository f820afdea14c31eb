"""Two models that write one text: the base decodes, a controller says when it is steered and with which category's vector."""

from .controller import Controller
from .decoding import decode
from .readout import Readout
from .row import Choice, HybridGeneration, HybridRow
from .shift import ShiftBank

__all__ = ["Choice", "Controller", "HybridGeneration", "HybridRow", "Readout", "ShiftBank", "decode"]
