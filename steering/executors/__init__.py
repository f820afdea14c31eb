"""Who runs the forward passes of the engine: the model itself, TransformerLens, or nnsight; and llama.cpp, which generates by itself.

An executor takes the same compiled plan and the same inputs as the engine's own forward pass and returns the same logits. What it
cannot do it refuses by name, before anything runs.
"""

from .agreement import Agreement, agreement
from .bridge import through_bridge
from .llama_cpp import LlamaCpp
from .nnsight_local import through_nnsight
from .nnsight_remote import RemoteRow, generate_remotely

__all__ = [
    "Agreement",
    "LlamaCpp",
    "RemoteRow",
    "agreement",
    "generate_remotely",
    "through_bridge",
    "through_nnsight",
]
