"""What a store does not hold yet is started from the page that would show it; a vector is made and tested from the app."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app import stack
from app.heat_strip import heat_strip
from app.jobs.admission import admitted_command
from app.jobs.job import Job
from app.stack import Card
from app.vector_files import offered
from app.vector_maker import Wish, arguments, prepare
from experiments.commands.cli import app as command_line
from experiments.studies.elicitation.findings import shipped_findings
from experiments.studies.elicitation.named import CARDS as UNTRAINED
from experiments.studies.training.named import CARDS as TRAINED
from experiments.sweeps.spec import load_sweep
from tests.app.showing import board_of, show
from tests.app.test_pages import said
from tests.experiments.fake_run import make_fake_run

Patch = pytest.MonkeyPatch
jobs = pytest.fixture(board_of)


def test_what_is_not_there_yet_is_started_by_a_button_with_its_time(
    tmp_path: Path, monkeypatch: Patch, jobs: list[Job]
) -> None:
    make_fake_run(tmp_path, 4)
    for page, key, verb in (
        ("hybrid", "hyb_small", "hybrid"),
        ("elicitation", "eli_cot-decoding", "elicit"),
        ("features", "ft_start", "sae"),
    ):
        app = show(page, tmp_path, monkeypatch)
        assert not app.exception and "Takes about" in said(app)
        before = len(jobs)
        app.button(key=key).click().run()
        assert not app.exception and len(jobs) == before + 1
        assert jobs[-1].request[0] == verb and admitted_command(jobs[-1].request, tmp_path)[0] == verb
        jobs.clear()
    app = show("sweeps", tmp_path, monkeypatch)
    assert not app.exception and "vectors" in str([link.proto.page for link in app.get("page_link")])


def test_a_store_without_findings_shows_the_shipped_ones_and_says_so(
    tmp_path: Path, monkeypatch: Patch, jobs: list[Job]
) -> None:
    make_fake_run(tmp_path, 4)
    app = show("elicitation", tmp_path, monkeypatch)
    found = shipped_findings()
    cards = {one.card for one in found}
    assert {"reinforced", "one-example", "fingerprint"} <= cards <= set(TRAINED) | set(UNTRAINED)
    assert "shipped with the program" in str([b.value for b in app.get("badge")]) + said(app) and "not shipped" in said(
        app
    )
    assert set(app.dataframe[0].value["card"]) <= cards and not any(s.key == "eli_arm" for s in app.selectbox)
    pages = Path(__file__).parents[2] / "docs" / "cards"
    for one in found:  # what is shipped is what the card's page shows
        stored = (pages / f"{one.card}.md").read_text()
        assert all(sentence in stored for sentence in one.said), one.card


def test_a_vector_is_made_from_what_is_typed_and_its_page_leads_on(
    tmp_path: Path, monkeypatch: Patch, jobs: list[Job]
) -> None:
    app = show("make_vector", tmp_path, monkeypatch)
    assert not app.exception and not jobs
    app.text_input(key="mk_name").set_value("think first").run()
    app.text_area(key="mk_positive").set_value("one text").run()
    assert "at least 2" in said(app) and not any(b.key == "mk_run" for b in app.button)
    typed = "\n".join(f"rules + {n} ? think first" for n in range(2, 12))
    app.text_area(key="mk_positive").set_value(typed).run()
    app.text_area(key="mk_negative").set_value(typed.replace("think first", "be quick")).run()
    app.button(key="mk_run").click().run()
    assert not app.exception and [job.request[0] for job in jobs] == ["extract"]
    positive = Path(jobs[0].request[jobs[0].request.index("--positive") + 1])
    assert positive.read_text() == typed + "\n"
    assert admitted_command(jobs[0].request, tmp_path) == jobs[0].request
    done = CliRunner().invoke(command_line, jobs[0].request, catch_exceptions=False)
    jobs[0].result = {"exit": 0, "output": done.stdout}
    jobs[0].to("done")
    app.run()
    assert not app.exception and "think first" in said(app) and "texts held out" in said(app)
    digest = json.loads(done.stdout)["digest"]
    app = show("vectors", tmp_path, monkeypatch, vec=digest)
    assert not app.exception and "made here" in said(app) + str([f.value for f in app.dataframe])
    jobs.clear()
    app.button(key=f"vec_test_{digest}").click().run()
    assert not app.exception and jobs[0].request[:2] == ["sweep", "run"]
    assert load_sweep(Path(jobs[0].request[2]), []).model == "builtin:base"


def test_two_vectors_of_one_name_stay_apart_in_every_list(tmp_path: Path, monkeypatch: Patch, jobs: list[Job]) -> None:
    texts = "\n".join(f"rules + {n} ? think first" for n in range(2, 12))
    for positive, negative in (
        (texts, texts.replace("think first", "be quick")),
        (texts.replace("think first", "be quick"), texts),
    ):
        wish = Wish(name="two", positive=positive, negative=negative, layers=(1,))
        prepare(wish, tmp_path)
        assert CliRunner().invoke(command_line, arguments(wish, tmp_path)).exit_code == 0
    one, two = (v for v in offered(tmp_path).values() if v.source == "made here")
    card = Card(vector=two.digest, span="generated", gate="projection", gate_vector=one.digest)
    link = {"pg_stack": str(stack.write([card])), "pg_model": "builtin:base"}
    app = show("playground", tmp_path, monkeypatch, **link)
    assert not app.exception, app.exception
    number = app.session_state["pg_cards"][0]
    app.toggle(key=f"pg_below_{number}").set_value(True).run()
    assert not app.exception
    assert (
        app.session_state[f"pg_vector_{number}"] == two.digest
        and app.session_state[f"pg_gate_vector_{number}"] == one.digest
    )
    app = show("monitor", tmp_path, monkeypatch)
    app.multiselect(key="mon_vectors_builtin:base").set_value([one.digest, two.digest]).run()
    app.button(key="mon_run").click().run()
    done = CliRunner().invoke(command_line, admitted_command(jobs[0].request, tmp_path), catch_exceptions=False)
    jobs[0].result = {"exit": 0, "output": done.stdout}
    jobs[0].to("done")
    app.run()
    plans = [block.value for block in app.code if "when projection(" in block.value]
    assert [one.path.name in plan for plan in plans] == [True, False] and [two.path.name in plan for plan in plans] == [
        False,
        True,
    ]


def test_a_text_is_read_and_shown_token_by_token_with_its_gate(
    tmp_path: Path, monkeypatch: Patch, jobs: list[Job]
) -> None:
    make_fake_run(tmp_path, 2)
    app = show("monitor", tmp_path, monkeypatch)
    assert not app.exception and not jobs
    app.text_area(key="mon_text").set_value("goal 31 start 42 <b> ? think first").run()
    app.text_input(key="mon_latents").set_value("183").run()
    app.button(key="mon_run").click().run()
    assert not app.exception and jobs[0].request[0] == "monitor"
    given = admitted_command(jobs[0].request, tmp_path)
    assert Path(given[given.index("--file") + 1]).read_text() == "goal 31 start 42 <b> ? think first"
    done = CliRunner().invoke(command_line, given, catch_exceptions=False)
    jobs[0].result = {"exit": 0, "output": done.stdout}
    jobs[0].to("done")
    app.run()
    assert not app.exception
    found = json.loads(done.stdout)
    strips = [block.value for block in app.get("html") if "token by token" in str(block.value)]
    assert len(strips) == len(found["series"]) and any("does not know" in w.value for w in app.warning)
    assert "lie above" in said(app) and any("when projection(" in block.value for block in app.code)
    app.text_input(key="mon_latents").set_value("").run()
    fewer = [block.value for block in app.get("html") if "token by token" in str(block.value)]
    assert not app.exception and not fewer, "a reading with more in it is not the one that the form asks for"
    app.text_area(key="mon_text").set_value("").run()
    assert app.text_area(key="mon_text").value == "" and "text is empty" in str([i.value for i in app.info])
    app.text_input(key="mon_row").set_value("a run:a key").run()
    assert not app.exception and "--row" in str([block.value for block in app.code])


def test_a_store_that_is_not_there_is_named(tmp_path: Path, monkeypatch: Patch, jobs: list[Job]) -> None:
    app = show("home", tmp_path / "gone", monkeypatch)
    assert not app.exception and f"no folder {tmp_path / 'gone'}" in app.info[0].value.replace("\\", "")
    (tmp_path / "gone").mkdir()
    app.run()
    assert not any("no folder" in info.value for info in app.info)


def test_a_strip_shows_every_token_with_its_value_and_nothing_of_its_markup() -> None:
    strip = heat_strip(["<b>", " a", "\n", ""], [1.0, -2.0, 0.0, 0.5], 0.0, 0.7)
    assert "&lt;b&gt;" in strip and "<b>" not in strip and "·a" in strip and "↵" in strip and "∅" in strip
    assert strip.count("<span") == 4 and strip.count("inset") == 1
    assert "rgb(255,255,255)" in strip, "no colour at the middle"
