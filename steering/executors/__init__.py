"""Who runs the forward passes of the engine: the model itself, TransformerLens, or nnsight.

An executor takes the same compiled plan and the same inputs as the engine's own forward pass and returns the same logits. What it
cannot do it refuses by name, before anything runs.
"""

from .bridge import through_bridge
from .nnsight_local import through_nnsight
from .nnsight_remote import RemoteRow, generate_remotely

__all__ = ["RemoteRow", "generate_remotely", "through_bridge", "through_nnsight"]
