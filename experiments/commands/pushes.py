"""What all pushes to a hub have in common on the command line: a dry run, what was pushed, and what that replaced."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steering.errors import BadInput

if TYPE_CHECKING:
    from steering.vector.hub.upload import Pushed

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Write the files into --out and push nothing.")]
OutOption = Annotated[Path | None, typer.Option(help="Folder for the files, with --dry-run.")]
NO_EVIDENCE = "Warning: no evidence is attached, and the card says so. --run RUN attaches that of a stored run."


def check_dry_run(dry_run: bool, out: Path | None) -> None:
    """Raises BadInput for one of the two options without the other."""
    if dry_run != (out is not None):
        raise BadInput("--dry-run writes the files into a folder: give --dry-run and --out together, or neither.")
    if out is not None and out.is_file():
        raise BadInput(f"{out} is a file; --out takes the folder that the files of a dry run go into.")


def print_written(files: Mapping[str, bytes], out: Path) -> None:
    """Write the files of a dry run, and say where they are."""
    from steering.vector.exchange import write_repository

    written = write_repository(files, out)
    print(json.dumps({"files": [str(path) for path in written], "pushed": False}, indent=1))


def print_pushed(done: Pushed) -> None:
    """Say what was pushed, and what it replaced."""
    replaced = None if done.replaced is None else vars(done.replaced)
    facts: dict[str, object] = {"repository": done.repository, "commit": done.commit, "url": done.url}
    facts |= {"pushed": True, "changed": done.changed, "replaced": replaced}
    print(json.dumps(facts, indent=1))
