"""Trace views: rows token by token, for the app, notebooks and exported pages. Looking at traces imports no model library."""

from .data import trace_data
from .divergence import Divergence, part
from .notebook import TraceView
from .page import trace_html

__all__ = ["Divergence", "TraceView", "part", "trace_data", "trace_html"]
