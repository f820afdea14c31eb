"""Figures of a run. Each function returns a `Drawing`: a Matplotlib figure, the data that it shows, and a sentence that says what it shows.

1. Every number that is drawn is one of the summary or of `experiments.statistics`; a figure computes nothing but places.
2. Roles differ by colour and marker, controls are hollow with dashed intervals: what is drawn can be read in grey.
3. Labels are inert: no text of a run becomes mathematics or markup.
4. The same run gives the same bytes, as SVG and as PNG.
"""

from __future__ import annotations

from ..evidence import Unavailable
from .arms import forest, pareto
from .canvas import Drawing
from .doses import dose_response
from .outcomes import outcome_matrix, outcomes
from .sweeps import heatmap

__all__ = ["Drawing", "Unavailable", "dose_response", "forest", "heatmap", "outcome_matrix", "outcomes", "pareto"]
