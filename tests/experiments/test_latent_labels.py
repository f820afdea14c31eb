"""Labels of latents: one's own and judged ones stay apart, a broken file is said, and the command writes what the app reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.store.latent_labels import LONGEST, Label, labels_of, path_of, write_labels
from steering.errors import BadInput
from tests.experiments.command_line import command


def test_labels_are_read_as_they_were_written_and_empty_ones_are_left_out(tmp_path: Path) -> None:
    given = {3: Label("spaces"), 7: Label("", "numbers ½", "somebody"), 9: Label()}
    path = write_labels(tmp_path, "release/with:odd name", given)
    assert path.parent == tmp_path / ".labels" and "/" not in path.name
    assert labels_of(tmp_path, "release/with:odd name") == {3: given[3], 7: given[7]}
    assert labels_of(tmp_path, "another") == {}


@pytest.mark.parametrize("text", ["no json", "[1]", '{"a": {}}', '{"1": {"own": 3}}', '{"1": {"other": "x"}}'])
def test_a_file_that_holds_no_labels_is_named(text: str, tmp_path: Path) -> None:
    path = path_of(tmp_path, "sae")
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(BadInput, match=r"holds no labels|at most"):
        labels_of(tmp_path, "sae")


def test_a_label_is_short_and_a_store_at_a_url_has_none() -> None:
    with pytest.raises(BadInput, match="at most"):
        Label("x" * (LONGEST + 1))
    with pytest.raises(BadInput, match="local store"):
        path_of("hf://somewhere", "sae")


def test_the_command_keeps_ones_own_and_the_judged_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steer = command(monkeypatch, capsys)
    where = ("--runs", str(tmp_path))
    assert steer("sae", "label", "builtin:base", "5", "digits", *where)[0] == 0
    assert steer("sae", "label", "builtin:base", "5", "numerals", "--judge", "model x", *where)[0] == 0
    assert labels_of(tmp_path, "builtin:base") == {5: Label("digits", "numerals", "model x")}
    assert steer("sae", "label", "builtin:base", "5", "", *where)[0] == 0
    assert labels_of(tmp_path, "builtin:base") == {5: Label("", "numerals", "model x")}


def test_a_latent_or_an_autoencoder_that_does_not_exist_has_no_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steer = command(monkeypatch, capsys)
    for words in (("builtin:base", "5000"), ("nosuch", "5")):
        code, _, err = steer("sae", "label", *words, "nope", "--runs", str(tmp_path))
        assert code == 2 and err and not (tmp_path / ".labels").exists()
    code, _, err = steer("sae", "vector", "builtin:base", "1024", "--out", str(tmp_path / "v.safetensors"))
    assert code == 2 and "does not exist" in err
    code, _, err = steer("sae", "vector", "builtin:base", "5", "--out", str(tmp_path / "v.txt"))
    assert code == 2 and ".safetensors" in err
