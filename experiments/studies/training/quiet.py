"""Without what TRL, transformers and datasets say of themselves while they train: their warnings of no consequence, and their bars."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import datasets
from transformers.utils import logging as transformers_logging

LOUD = ("trl", "transformers", "accelerate")


@contextmanager
def quiet() -> Iterator[None]:
    """Errors are still said; afterwards everything is said as before."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    levels = {name: logging.getLogger(name).level for name in LOUD}
    bars = transformers_logging.is_progress_bar_enabled(), datasets.is_progress_bar_enabled()
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if bars[0]:
            transformers_logging.enable_progress_bar()
        if bars[1]:
            datasets.enable_progress_bars()
