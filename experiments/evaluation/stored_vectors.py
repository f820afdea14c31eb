"""The vectors and features that a stored run keeps, read back."""

from __future__ import annotations

from steering.vector.features import Features, load_stored
from steering.vector.vectors import SteeringVector

from ..store.runs import Run


def run_vectors(run: Run) -> dict[str, SteeringVector | Features]:
    """The vectors and features stored with a run, by digest."""
    with run.local("vectors") as place:
        return {path.stem: load_stored(path) for path in sorted(place.glob("*.safetensors"))}
