"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

RunsOption = Annotated[
    str, typer.Option("--runs", help="The run store: a folder, or a URL such as s3://bucket/runs, gs://... or hf://...")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
TrackOption = Annotated[
    str | None, typer.Option("--track", help="Send summaries to wandb, trackio or mlflow (an extra of each name).")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what it would take (rows, tokens, time, memory, disk) and store nothing.")
]
RUNS = "runs"
"""The store where none is named."""
