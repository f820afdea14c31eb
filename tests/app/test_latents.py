"""Features without a browser: labels are kept and searched, a latent becomes a vector, a text names latents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.feature_files import example_texts
from app.jobs.admission import admitted_command
from app.jobs.board import Board
from app.latent_names import hit, said
from app.vector_files import offered
from experiments.store.latent_labels import Label, labels_of, write_labels
from saes.directions import latent_vector
from saes.loading import load_dictionary
from tests.app.test_library_pages import dashboard
from tests.app.test_playground import board, show
from tests.experiments.command_line import command
from tests.experiments.fake_run import HOSTILE

__all__ = ["board"]
Patch = pytest.MonkeyPatch


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    dashboard(tmp_path / ".dashboards" / "tiny")
    return tmp_path


def test_a_label_is_kept_searched_and_told_from_a_judged_one(runs: Path, board: Board, monkeypatch: Patch) -> None:
    app = show("features", runs, monkeypatch)
    number = int(app.selectbox(key="ft_id").value)
    app.text_input(key=f"ft_label_builtin:base_{number}").set_value("my own name").run()
    assert not app.exception and labels_of(runs, "builtin:base") == {number: Label("my own name")}
    write_labels(runs, "builtin:base", {number: Label("my own name", HOSTILE[0][:150], "a judge")})
    app = show("features", runs, monkeypatch, ft_id=str(number))
    assert any("Judged by a judge" in caption.value for caption in app.caption)
    app.text_input(key="ft_find").set_value("OWN NAME").run()
    assert list(app.dataframe[0].value["latent"]) == [number]
    assert list(app.dataframe[0].value["label"]) == ["my own name"]
    app.text_input(key="ft_find").set_value("nothing has this").run()
    assert not app.exception and len(app.dataframe[0].value) == 0


def test_a_broken_file_of_labels_is_said(runs: Path, board: Board, monkeypatch: Patch) -> None:
    (runs / ".labels").mkdir()
    (runs / ".labels" / "builtin_base.json").write_text("no json")
    app = show("features", runs, monkeypatch)
    assert not app.exception and any("holds no labels" in one.value for one in app.warning)


def test_search_reads_labels_promoted_tokens_and_examples(runs: Path) -> None:
    folder = runs / ".dashboards" / "tiny"
    texts = example_texts(str(folder), 0.0)
    assert texts and all("goal 31" in text for text in texts.values())
    labels = {1: Label("", "numerals", "x"), 2: Label("Digits")}
    assert hit(9, ["Wait"], "wait", labels, {}) and hit(9, [], "goal 31", labels, {9: "the goal 31"})
    assert hit(1, [], "NUMER", labels, {}) and hit(2, [], "digit", labels, {}) and not hit(3, [], "digit", labels, {})
    assert said(labels, 1) == "numerals (judged)" and said(labels, 2) == "Digits" and said(labels, 3) == ""


def test_a_latent_becomes_a_vector_by_a_button_and_then_a_link(runs: Path, board: Board, monkeypatch: Patch) -> None:
    app = show("features", runs, monkeypatch)
    number = int(app.selectbox(key="ft_id").value)
    started: list[list[str]] = []
    monkeypatch.setattr("app.latent_actions.start_command", lambda words, title: started.append(words))
    app.button(key="ft_steer").click().run()
    (words,) = started
    assert words[:4] == ["sae", "vector", "builtin:base", str(number)] and admitted_command(words, runs) == words
    latent_vector(load_dictionary("builtin:base"), number, 1.0).save(words[-1])
    app = show("features", runs, monkeypatch, ft_id=str(number))
    assert not app.exception and not [one for one in app.button if one.key == "ft_steer"]
    assert any(vector.path == Path(words[-1]) for vector in offered(runs).values())


def test_a_text_of_ones_own_names_latents(
    runs: Path, board: Board, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    steer = command(monkeypatch, capsys)
    (runs / "t.txt").write_text("rules + 1 ; goal 3")
    words = ["monitor", "--json", "--file", str(runs / "t.txt"), "--sae", "builtin:base", "--strongest", "3"]
    assert admitted_command(words, runs)[: len(words)] == words
    code, out, err = steer(*words)
    assert code == 0, err
    found = json.loads(out)
    assert len(found["strongest"]) == len(found["tokens"]) and found["series"] == []
    from experiments.studies.monitor import monitor
    from steering.model.models import load_model

    dictionary = load_dictionary("builtin:base")
    numbers = sorted({number for token in found["strongest"] for number, _ in token})
    series = monitor(load_model("builtin:base"), found["token_ids"], dictionary=dictionary, latents=numbers).series
    values = dict(zip(numbers, (one.values for one in series), strict=True))
    for place, token in enumerate(found["strongest"]):
        assert all(value == pytest.approx(values[number][place], rel=1e-5) for number, value in token)
        assert [value for _, value in token] == sorted((value for _, value in token), reverse=True)
    code, out, err = steer("monitor", "--text", "rules + 1", "--sae", "builtin:base", "--strongest", "2")
    assert code == 0 and "most active there" in out
    code, _, err = steer("monitor", "--text", "rules + 1", "--strongest", "2")
    assert code != 0 and "name it too" in err


def test_monitor_opens_with_the_latent_of_a_link(runs: Path, board: Board, monkeypatch: Patch) -> None:
    app = show("monitor", runs, monkeypatch, mon_model="builtin:base", mon_latents="7")
    assert not app.exception and app.text_input(key="mon_latents").value == "7"
