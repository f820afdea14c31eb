"""Progress of long work, told on standard error so that standard output stays data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Report = Callable[[int, int], None]
"""Takes (done, total)."""


def talk() -> Console:
    """The console for everything that is not data."""
    return Console(stderr=True, emoji=False)  # `:word:` in a message is the user's, or a hint such as span:A:B


def warning(text: str, console: Console | None = None) -> None:
    """One sentence that a reader should not miss, beside the data."""
    (console or talk()).print(f"Warning: {text}", style="yellow", highlight=False, soft_wrap=True, markup=False)


WIDE = 160
"""Columns of tables that are written to a file or a pipe, which nothing cuts."""


def paper() -> Console:
    """The console for tables on standard output: as wide as the terminal, or wide where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


@contextmanager
def progress(title: str, console: Console | None = None) -> Iterator[Report]:
    """A rich bar on a terminal; one line per tenth of the work when standard error is piped."""
    console = console or talk()
    if not console.is_terminal:
        told = -1

        def line(done: int, total: int) -> None:
            nonlocal told
            tenth = 10 * done // max(total, 1)
            if tenth > told:
                told = tenth
                console.print(f"{title}: {done}/{total}", highlight=False)

        yield line
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
