"""How an arm looks in the app: as in every figure and report (`experiments.looks`)."""

from __future__ import annotations

from experiments.looks import LOOKS, UNKNOWN, Look, look

__all__ = ["LOOKS", "UNKNOWN", "Look", "look"]
