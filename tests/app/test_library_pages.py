"""Home, Sweeps, Hybrid, Vectors, Features, Runs and Health over every kind of store, without a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from app.cell_figures import MEASURES, dose_figure, grid_figure
from app.feature_files import dashboards, edited
from app.jobs.admission import admitted_command
from app.jobs.job import Job
from app.vector_files import BUILT_IN, offered
from experiments.commands.cli import app as command_line
from experiments.store.runs import Store
from experiments.sweeps.cells import read_cells
from experiments.sweeps.run import SweepResult, run_sweep
from experiments.sweeps.spec import SweepSpec
from experiments.sweeps.table import sweep_table
from saes.corpus import Text
from saes.dashboard import build_dashboard
from steering.model.sites import Site
from steering.vector.vectors import Provenance, SteeringVector
from tests.app.showing import board_of, show
from tests.app.test_pages import said
from tests.experiments.fake_run import HOSTILE, make_fake_run

Patch = pytest.MonkeyPatch
PAGES = ("home", "results", "compare", "sweeps", "elicitation", "hybrid", "vectors", "features", "runs", "health")
jobs = pytest.fixture(board_of)
each_page = pytest.mark.parametrize("page", PAGES)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SweepResult]:
    """A small sweep with its test run."""
    folder = tmp_path_factory.mktemp("sweep")
    for layer in (0, 1):
        direction = torch.randn(128, generator=torch.Generator().manual_seed(layer))
        SteeringVector(f"v-{layer}", Site(layer), direction, Provenance("test", "none")).save(
            folder / f"v-{layer}.safetensors"
        )
    spec = SweepSpec.model_validate({
        "name": "small", "model": "builtin:base", "plan": "add v-$layer.safetensors ${dose}v on last_prompt",
        "vary": {"layer": [0, 1], "dose": [-1, 1, 3]}, "splits": {"development": {"standard-dev": 4}, "test": {"standard-test": 4}},
        "generation": {"max_new_tokens": 6}, "controls": {"random": 1, "random_on_test": 1},
    })  # fmt: skip
    return folder / "runs", run_sweep(spec, Store(folder / "runs"), folder)


@each_page
def test_an_empty_store_has_a_next_step(page: str, tmp_path: Path, monkeypatch: Patch, jobs: list[Job]) -> None:
    app = show(page, tmp_path / "none", monkeypatch)
    assert not app.exception and not app.error
    assert "steer" in said(app) or "make demo" in said(app)


@each_page
def test_stored_runs_are_shown(page: str, tmp_path: Path, monkeypatch: Patch, jobs: list[Job]) -> None:
    make_fake_run(tmp_path, 4, hostile=True)
    app = show(page, tmp_path, monkeypatch)
    assert not app.exception and not app.error
    assert len(app.subheader) + len(app.title) == 1
    for kind in ("markdown", "caption", "info", "warning"):
        for element in getattr(app, kind):
            assert not any(text in element.value for text in HOSTILE)


@each_page
def test_a_corrupt_run_does_not_take_the_page_down(
    page: str, tmp_path: Path, monkeypatch: Patch, jobs: list[Job]
) -> None:
    make_fake_run(tmp_path, 4)
    broken = make_fake_run(tmp_path / "other", 4).folder
    broken.rename(tmp_path / "broken")
    (tmp_path / "broken" / "run.json").write_text('{"run_id": ')
    shard = Store(tmp_path).open("fake").shards()[0]
    shard.write_bytes(shard.read_bytes()[:-40])
    app = show(page, tmp_path, monkeypatch)
    assert not app.exception
    if page == "runs":
        assert "broken" in said(app) and "run.json" in said(app)


@each_page
def test_a_link_to_what_is_not_there_says_so(page: str, tmp_path: Path, monkeypatch: Patch, jobs: list[Job]) -> None:
    make_fake_run(tmp_path, 4)
    values = {
        "sweeps": {"run": "gone"},
        "hybrid": {"run": "gone"},
        "vectors": {"vec": "gone"},
        "runs": {"lib_a": "gone"},
    }
    app = show(page, tmp_path, monkeypatch, **values.get(page, {"hea_dtype": "gone"} if page == "health" else {}))
    assert not app.exception
    if page in values or page == "health":
        assert "gone" in said(app) and app.warning


@each_page
@pytest.mark.parametrize("state", ["running", "failed"])
def test_pages_stand_beside_a_job(page: str, state: Any, tmp_path: Path, monkeypatch: Patch, jobs: list[Job]) -> None:
    make_fake_run(tmp_path, 4)
    job = Job(id="j", kind="command", title="Checks", owner="o", request=["doctor", "builtin:base"])
    job.to("running")
    if state == "failed":
        job.to("failed", error="The command failed.")
    jobs.append(job)
    app = show(page, tmp_path, monkeypatch)
    assert not app.exception
    if page == "health":
        words = said(app)
        assert ("running" in words) if state == "running" else ("The checks did not finish" in words)


def test_the_sweep_page_says_how_many_cells_and_what_the_winner_did(
    swept: tuple[Path, SweepResult], monkeypatch: Patch, jobs: list[Job]
) -> None:
    root, result = swept
    run = result.runs[0]
    app = show("sweeps", root, monkeypatch, run=run.manifest.run_id)
    assert not app.exception and not app.error
    words = said(app)
    assert "6 cells** of 6" in words and result.winner.name in words and "On test problems" in words
    table = sweep_table(run, read_cells(run))
    app = show("sweeps", root, monkeypatch, run=run.manifest.run_id, swp_cell="cell-004", swp_metric="accuracy")
    cell = table[table["cell"] == "cell-004"].iloc[0]
    assert f"{100 * cell['accuracy']:.1f} %" in said(app)
    assert app.selectbox(key="swp_pick").value == "cell-004"
    app.selectbox(key="swp_pick").select("cell-002").run()
    assert not app.exception and app.query_params["swp_cell"] in ("cell-002", ["cell-002"])
    app = show("sweeps", root, monkeypatch, run=result.test.manifest.run_id)
    assert "tests the winner" in said(app) and not app.exception


def test_a_clicked_cell_is_chosen(swept: tuple[Path, SweepResult], monkeypatch: Patch, jobs: list[Job]) -> None:
    root, result = swept
    app = show("sweeps", root, monkeypatch, run=result.runs[0].manifest.run_id)
    app.session_state["swp_grid_score"] = {
        "selection": {"points": [{"customdata": "cell-001"}], "point_indices": [1], "box": [], "lasso": []}
    }
    app.run()
    assert not app.exception and app.selectbox(key="swp_pick").value == "cell-001"


def test_faint_cells_are_those_whose_interval_holds_zero() -> None:
    cells = pd.DataFrame({
        "cell": ["a", "b", "c"], "layer": [0, 0, 1], "dose": [1, 2, 1], "over_control": [0.3, 0.3, -0.2],
        "over_control_low": [0.1, -0.1, -0.3], "over_control_high": [0.5, 0.6, -0.1], "accuracy": [0.5, 0.5, 0.1], "n": 40,
        "unsteered": 0.2, "control": 0.2, "control_low": 0.1, "control_high": 0.3, "directions": 20, "as_good": 1, "rank_p": 0.1,
    })  # fmt: skip
    figure, words = grid_figure(cells, "layer", "dose", MEASURES["score"], "a")
    strength = [float(shape.fillcolor.split(",")[3].rstrip(")")) for shape in figure.layout.shapes]
    assert strength[1] < strength[0] / 3 and strength[2] > strength[1]
    assert "1 are faint" in words and "layer 0, dose 1" in words
    assert list(figure.data[1].customdata) == ["a", "b", "c"], "marks over the cells carry what a click reports"
    assert [shape.line.width for shape in figure.layout.shapes] == [3, 1, 1]
    assert len(dose_figure(cells, "layer", "dose")[0].data) == 6, (
        "a curve, its directions' mean and their band, for two layers"
    )


def test_the_health_page_shows_what_the_checks_measured(tmp_path: Path, monkeypatch: Patch, jobs: list[Job]) -> None:
    app = show("health", tmp_path, monkeypatch)
    app.button(key="hea_run").click().run()
    assert jobs and jobs[0].request[:2] == ["doctor", "builtin:base"]
    checks = [{"name": "zero dose", "passed": False, "measured": "0.5", "means": "hooks alter the model"}]
    machine = {
        "python": "3", "system": "x", "cores": 1, "threads": 1, "memory_gib": 1, "free_memory_gib": 1, "devices": [{"device": "cpu"}],
        "packages": {}, "optional": {}, "models": {"cache": "c", "offline": True},
    }  # fmt: skip
    document = {"model": "builtin:base", "dtype": "float32", "machine": machine, "checks": checks}
    jobs[0].to("running")
    jobs[0].result = {"exit": 1, "output": json.dumps(document)}
    jobs[0].to("failed", error="The command failed.")
    app = show("health", tmp_path, monkeypatch)
    assert not app.exception
    assert "0 of 1 checks pass" in app.error[0].value and "cannot be trusted" in app.error[0].value


def test_compare_offers_the_divergence_that_is_not_computed_yet(
    tmp_path: Path, monkeypatch: Patch, jobs: list[Job]
) -> None:
    make_fake_run(tmp_path, 4)
    app = show("compare", tmp_path, monkeypatch)
    (button,) = [b for b in app.button if b.key and b.key.startswith("cmp_kl_")]
    button.click().run()
    assert not app.exception and "Queued" in said(app)
    assert jobs[0].request[:3] == ["trace", "kl", "fake"] and button.key == f"cmp_kl_{jobs[0].request[3]}"
    assert admitted_command(jobs[0].request) == jobs[0].request


def test_the_bar_counts_a_job_that_the_page_itself_has_just_started(
    tmp_path: Path, monkeypatch: Patch, jobs: list[Job]
) -> None:
    make_fake_run(tmp_path, 4)
    app = show("compare", tmp_path, monkeypatch)
    chips = [[link.proto.label for link in app.get("page_link") if link.proto.page == "jobs"]]
    (button,) = [b for b in app.button if b.key and b.key.startswith("cmp_kl_")]
    button.click().run()
    chips.append([link.proto.label for link in app.get("page_link") if link.proto.page == "jobs"])
    assert chips == [["no jobs"], ["1 running"]]


def test_two_runs_are_compared_by_question(tmp_path: Path, monkeypatch: Patch, jobs: list[Job]) -> None:
    run = make_fake_run(tmp_path, 6)
    other = run.manifest.model_copy(update={"run_id": "second", "spec": {**run.manifest.spec, "note": "another"}})
    rows = run.table().to_pylist()
    for row in rows:
        row["correct"] = row["correct"] or row["arm"] == "random"
    Store(tmp_path).create(other).write(rows)
    app = show("runs", tmp_path, monkeypatch, lib_a="fake", lib_b="second")
    assert not app.exception and not app.error
    tables = [frame.value for frame in app.dataframe]
    assert any("setting" in t and "spec.note" in set(t["setting"]) for t in tables)
    assert any("B minus A" in t and "random" in set(t["arm"]) for t in tables)


def test_features_come_from_a_dashboard_and_say_what_is_untested(
    tmp_path: Path, monkeypatch: Patch, jobs: list[Job]
) -> None:
    dashboard(tmp_path / ".dashboards" / "tiny")
    app = show("features", tmp_path, monkeypatch)
    assert not app.exception and not app.error
    assert "Strongest" in said(app) and "Promotes" in said(app)
    chosen = app.selectbox(key="ft_id").options[-1]
    app = show("features", tmp_path, monkeypatch, ft_id=chosen)
    assert f"Latent {chosen}" in said(app)
    app = show("features", tmp_path, monkeypatch, ft_id="99999")
    assert "names latent 99999" in said(app)


def test_a_shipped_dashboard_is_shown_where_the_store_has_none(
    tmp_path: Path, monkeypatch: Patch, jobs: list[Job]
) -> None:
    app = show("features", tmp_path, monkeypatch)
    assert not app.exception and not app.error
    assert "smollm2-text: 2,048 latents" in said(app) and "It reads smollm2 at blocks.10.hook" in said(app)
    assert "sae dashboard builtin:base" in said(app), "how to compute one of a built-in model is not said"
    dashboard(tmp_path / ".dashboards" / "tiny")
    assert list(dashboards(tmp_path)) == ["tiny", "smollm2-text"]


def test_a_run_that_edited_a_latent_is_shown_for_its_own_autoencoder_alone(tmp_path: Path) -> None:
    run = make_fake_run(tmp_path, 2)
    known = {"name": "latent7", "site": "blocks.2.hook_resid_post", "latents": [7, 12], "autoencoder": "builtin:base"}
    facts = {"name": "builtin:base", "site": "blocks.2.hook_resid_post"}

    def shown(vector: dict[str, Any], latent: int, facts: dict[str, Any]) -> bool:
        return edited(run.manifest.model_copy(update={"facts": {"vectors": {"0": vector}}}), latent, facts)

    assert shown(known, 7, facts) and shown(known, 12, facts) and not shown(known, 8, facts)
    assert not shown(known, 7, {**facts, "name": "smollm2-text", "site": "blocks.10.hook_resid_post"})
    assert not shown(known, 7, {**facts, "name": "another at the same site"})
    older = {key: value for key, value in known.items() if key != "autoencoder"}
    assert shown(older, 7, facts) and not shown(older, 7, {**facts, "site": "blocks.10.hook_resid_post"})
    assert not edited(run.manifest, 7, facts)


LENS = ["vectors", "lens", str(BUILT_IN / "checking.safetensors"), "--model", "builtin:base", "--json"]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the command of the button prints, on fewer texts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEERING_CACHE", str(tmp_path_factory.mktemp("cache")))
        done = CliRunner().invoke(command_line, [*LENS, "--n", "6", "--count", "4"], catch_exceptions=False)
    assert done.exit_code == 0
    return str(done.stdout)


def test_the_jacobian_lens_of_a_vector_is_computed_when_asked_and_stands_beside_the_logit_lens(
    tmp_path: Path, monkeypatch: Patch, jobs: list[Job], document: str
) -> None:
    digest = next(d for d, v in offered(tmp_path).items() if v.name == "checking")
    app = show("vectors", tmp_path, monkeypatch, vec=digest)
    assert not app.exception and not jobs, "nothing is computed when the page is opened"
    app.button(key="vec_lens").click().run()
    assert [job.request for job in jobs] == [LENS] and admitted_command(jobs[0].request) == LENS
    jobs[0].to("running")
    jobs[0].progress(3, 96)
    app = show("vectors", tmp_path, monkeypatch, vec=digest)
    assert "running" in said(app) and "3 of 96" in said(app) and app.button(key="vec_lens").disabled
    jobs[0].result = {"exit": 0, "output": document}
    jobs[0].to("done")
    app = show("vectors", tmp_path, monkeypatch, vec=digest)
    found = json.loads(document)["vectors"][0]
    table = next(f.value for f in app.dataframe if "Jacobian lens promotes" in f.value)
    for heading, lens in (("logit lens promotes", "logit"), ("Jacobian lens promotes", "jacobian")):
        tokens = found[lens]["promoted"]
        assert list(table[heading]) == [f"{t['text'] or 'id ' + str(t['id'])} {t['logit']:+.2f}" for t in tokens]
    assert "of 6 texts" in said(app) and "halves of the texts" in said(app) and not app.exception
    other = next(d for d, v in offered(tmp_path).items() if v.name != "checking")
    app = show("vectors", tmp_path, monkeypatch, vec=other)
    assert app.button(key="vec_lens") and not any("Jacobian lens promotes" in f.value for f in app.dataframe)


def test_what_an_audit_of_the_store_says_stands_on_its_vector_alone(tmp_path: Path, monkeypatch: Patch) -> None:
    vectors = {v.name: d for d, v in offered(tmp_path).items()}
    digest = vectors.pop("checking")
    table = {"title": "bare: checking, 1v on generated", "heads": ["arm"], "lines": [], "notes": [f"Vector {digest}."]}
    facts = {
        "card": "audit", "systems": ["S24"], "papers": [], "pair": ["builtin:base", None], "task": "find-start", "preset": "quick",
        "options": {}, "points": [], "tables": [table], "said": ["bare: checking: it writes a token.", "bare: another: it does more."],
        "runs": [],
    }  # fmt: skip
    (tmp_path / ".elicitation").mkdir()
    (tmp_path / ".elicitation" / "audit-0.json").write_text(json.dumps(facts))
    app = show("vectors", tmp_path, monkeypatch, vec=digest)
    assert not app.exception and "checking: it writes a token. (builtin:base on find-start)" in said(app)
    assert "it does more" not in said(app)
    app = show("vectors", tmp_path, monkeypatch, vec=next(iter(vectors.values())))
    assert not app.exception and "it writes a token" not in said(app)
    assert any("steer vectors audit" in block.value for block in app.code)


@pytest.mark.parametrize(("state", "words"), [("failed", "did not finish"), ("done", "before this server started")])
def test_a_lens_without_a_result_says_why_and_can_be_asked_again(
    state: Any, words: str, tmp_path: Path, monkeypatch: Patch, jobs: list[Job]
) -> None:
    digest = next(d for d, v in offered(tmp_path).items() if v.name == "checking")
    jobs.append(Job(id="j", kind="command", title="t", owner="o", request=LENS))
    jobs[0].to(state, error="The command was refused." if state == "failed" else "")
    app = show("vectors", tmp_path, monkeypatch, vec=digest)
    assert not app.exception and words in said(app) and not app.button(key="vec_lens").disabled


def test_a_latent_has_the_lens_too_and_a_model_without_texts_the_command(
    tmp_path: Path, monkeypatch: Patch, jobs: list[Job]
) -> None:
    app = show("features", tmp_path, monkeypatch)
    number = app.selectbox(key="ft_id").value
    assert f"--sae smollm2-text --latents {number} --model smollm2 --texts TEXTS.txt" in said(app)
    assert not any(button.key == "ft_lens" for button in app.button)
    dashboard(tmp_path / ".dashboards" / "tiny")
    app = show("features", tmp_path, monkeypatch, ft_sae="tiny")
    number = app.selectbox(key="ft_id").value
    app.button(key="ft_lens").click().run()
    wanted = ["vectors", "lens", "--sae", "builtin:base", "--latents", number, "--model", "builtin:base", "--json"]
    assert not app.exception and [job.request for job in jobs] == [wanted] and admitted_command(wanted) == wanted


def dashboard(folder: Path) -> None:
    """A dashboard of the built-in base's autoencoder on two texts."""
    from saes.loading import load_dictionary
    from steering.model.models import load_model

    model = load_model("builtin:base")
    prompt = tuple(model.tokenizer("rules + 15 ; * 9 ; goal 31 start 42 91 9 ?")["input_ids"])
    folder.parent.mkdir(parents=True, exist_ok=True)
    build_dashboard(model, load_dictionary("builtin:base"), [Text(prompt, prompt=len(prompt))], folder)


def test_every_elicitor_stands_beside_its_control(tmp_path: Path, monkeypatch: Patch) -> None:
    from experiments.studies.elicitation.findings import FOLDER, Findings, Point, Table

    def point(arm: str, accuracy: float, tokens: float, role: str, **more: Any) -> Point:
        return Point(
            setting="bare prompts", arm=arm, label=f"{arm} {HOSTILE}", role=role, n=40, accuracy=accuracy, low=accuracy - 0.1,
            high=min(1.0, accuracy + 0.1), tokens=tokens, truncated=1, unscorable=2, run="elicit-x", split="standard-test", **more,
        )  # fmt: skip

    given = {"difference": 0.3, "difference_low": 0.1, "difference_high": 0.5}
    over = {"control": "samples", "over_control": 0.2, "over_control_low": 0.05, "over_control_high": 0.4}
    points = (
        point("base", 0.2, 3, "baseline"),
        point("surest", 0.5, 400, "steered", **given, **over),
        point("samples", 0.3, 500, "control", **given),
    )
    ranks = Table(title=f"bare prompts: ranks {HOSTILE}", heads=("rank", "paths"), lines=((1, None),))
    found = Findings(
        card="cot-decoding", systems=("S4",), papers=("2402.10200",), pair=("builtin:base", None), task="find-start", preset="quick",
        options={"n": 40}, points=points, tables=(ranks,),
        said=(f"bare prompts: {HOSTILE}", "of every setting"), runs=("elicit-x",),
    )  # fmt: skip
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "one.json").write_text(found.model_dump_json())
    (tmp_path / FOLDER / "two.json").write_text("no json")
    older = found.model_copy(update={"version": 0, "said": ("an older version",)})
    (tmp_path / FOLDER / "zero.json").write_text(older.model_dump_json())
    other = found.model_copy(update={"options": {"n": 40, "k": 3}, "preset": "quick"})
    (tmp_path / FOLDER / "three.json").write_text(other.model_dump_json())
    wide = found.model_copy(
        update={"card": "shift", "points": (point("base", 0.1, 3, "baseline").model_copy(update={"split": "test"}),)}
    )
    (tmp_path / FOLDER / "four.json").write_text(wide.model_dump_json())
    both = show("elicitation", tmp_path, monkeypatch)
    headed = [m.value.replace("\\", "") for m in both.markdown if "Questions of" in m.value]
    assert headed == ["**Questions of standard-test** (cot-decoding)", "**Questions of test** (shift)"]
    assert len([c for c in both.caption if "In this sample" in c.value]) == 2
    (tmp_path / FOLDER / "four.json").unlink()
    app = show("elicitation", tmp_path, monkeypatch)
    assert not app.exception
    lines = app.dataframe[0].value
    assert list(lines["points over its control"]) == ["", "+20.0 (+5.0 to +40.0)", ""] * 2 and set(lines["n"]) == {40}
    warned = app.warning[0].value.replace("\\", "")
    assert "two.json holds no findings" in warned
    (words,) = [c.value for c in app.caption if "In this sample" in c.value]
    assert "40 questions of standard-test" in words and not any("Questions of" in m.value for m in app.markdown)
    assert "base" in words and "surest" in words and "samples" not in words
    words = "".join(m.value for m in app.markdown)
    assert "of every setting" in words and "an older version" not in words
    assert (
        "which this store does not have"
        in show("elicitation", tmp_path, monkeypatch, eli_setting="other").warning[1].value
    )
