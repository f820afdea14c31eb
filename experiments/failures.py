"""Failures that leave something behind; apart from what raises them, so that the command line names them without loading a model."""

from __future__ import annotations


class WorkerFailed(RuntimeError):
    """Chunks that could not be run. Everything finished is stored."""
