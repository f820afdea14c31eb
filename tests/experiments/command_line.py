"""The command line, called as a person calls it, in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from experiments.commands import cli

Steer = Callable[..., tuple[int, str, str]]


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Steer:
    """`steer` with arguments: (exit code, standard output, standard error with white space run together)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["steer", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, " ".join(said.err.split())

    return call
