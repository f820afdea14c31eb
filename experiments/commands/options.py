"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunsOption = Annotated[
    str, typer.Option("--runs", help="The run store: a folder, or a URL such as s3://bucket/runs, gs://... or hf://...")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
MarkdownOption = Annotated[bool, typer.Option("--markdown", help="Print Markdown, as the cards' pages have it.")]
TrackOption = Annotated[
    str | None, typer.Option("--track", help="Send summaries to wandb, trackio or mlflow (an extra of each name).")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what it would take (rows, tokens, time, memory, disk) and store nothing.")
]
PositiveOption = Annotated[Path | None, typer.Option(help="Text file, one text per line, that shows what is wanted.")]
NegativeOption = Annotated[Path | None, typer.Option(help="Text file, one text per line, that does not.")]
PairsOption = Annotated[
    Path | None, typer.Option(help="JSON lines (or CSV, Parquet) with positive, negative, and perhaps prompt.")
]
ReadOption = Annotated[
    str,
    typer.Option(help="Which tokens: last, first, mean, index:N, span:A:B (of the text; last is the last one fed)."),
]
TextsOption = Annotated[
    str, typer.Option(help="plain, or chat: each text is a user's turn in the model's chat template.")
]
HeldOutOption = Annotated[float, typer.Option(help="Share of the texts that quality is measured on; 0 for none.")]
DtypeOption = Annotated[str, typer.Option(help="float32, bfloat16, float16 or auto.")]
DeviceOption = Annotated[str | None, typer.Option(help="Device, such as cuda.")]
RUNS = "runs"
"""The store where none is named."""
TEXTS = ("plain", "chat")


def check_texts(texts: str) -> None:
    """Raises BadInput for what `--texts` does not know."""
    from steering.errors import unknown

    if texts not in TEXTS:
        raise unknown("way to feed texts", texts, TEXTS, "--texts")
