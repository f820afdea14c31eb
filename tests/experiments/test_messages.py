"""Messages of the command line: what a person typed comes back as it was typed."""

from __future__ import annotations

import sys

import pytest

from experiments.commands.cli import main


def test_a_word_between_colons_is_no_picture(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (("extract", "v.safetensors", "--read", "banana"), ("runs", "show", ":banana:")):
        monkeypatch.setattr(sys, "argv", ["steer", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert ("span:A:B" in said) if "--read" in arguments else (":banana:" in said)
