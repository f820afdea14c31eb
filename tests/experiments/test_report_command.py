"""`steer report`, a real sweep reported and made again, and the page in a browser."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.commands.cli import main
from experiments.report import FORMATS, gather, write_report
from experiments.report.reproduce import recipe
from experiments.store.runs import Run, Store
from tests.experiments.fake_run import EVIL, make_fake_run, make_markup_run

N = 40


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_fake_run(tmp_path_factory.mktemp("runs"), N)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_markup_run(tmp_path_factory.mktemp("hostile"))


def steer(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["steer", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_the_command(
    fake: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, out = str(fake.folder.parent), str(tmp_path / "out")
    code, said, _ = steer(
        ["report", "fake", "--runs", runs, "-o", out, "--format", "md,csv", "--json"], monkeypatch, capsys
    )
    document = json.loads(said)
    assert code == 0 and document["partial"] is None and document["run"] == "fake"
    assert all(Path(name).is_file() for name in document["files"]) and not list(Path(out).rglob("*.png"))
    steered = next(line for line in document["arms"] if line["arm"] == "steered")
    assert (
        steered["n"] == N and steered["controls"] == "1 random direction" and steered["over_controls_low"] is not None
    )
    assert isinstance(steered["helped"], int)
    code, said, err = steer(["report", "fakes", "--runs", runs, "-o", out], monkeypatch, capsys)
    assert code == 2 and "Did you mean 'fake'" in err and said == ""
    code, _, err = steer(["report", "fake", "--runs", runs, "--format", "html,pgn"], monkeypatch, capsys)
    assert code == 2 and "Did you mean 'png'" in err
    assert set(FORMATS) == {"html", "md", "latex", "csv", "svg", "png"}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import torch

    from experiments.sweeps.run import run_sweep
    from experiments.sweeps.spec import SweepSpec
    from steering.model.sites import Site
    from steering.vector.vectors import Provenance, SteeringVector

    folder = tmp_path_factory.mktemp("sweep")
    for layer in range(2):
        direction = torch.randn(128, generator=torch.Generator().manual_seed(layer))
        SteeringVector(f"v-{layer}", Site(layer), direction, Provenance("test", "none")).save(
            folder / f"v-{layer}.safetensors"
        )
    spec = SweepSpec.model_validate({
        "name": "small", "model": "builtin:base", "plan": "add v-$layer.safetensors ${dose}v on last_prompt",
        "vary": {"layer": [0, 1], "dose": [0.5, 4]}, "splits": {"development": {"standard-dev": 6}, "test": {"standard-test": 4}},
        "generation": {"max_new_tokens": 12}, "controls": {"random": 2, "random_on_test": 3},
    })  # fmt: skip
    return run_sweep(spec, Store(folder / "runs"), folder)


def test_a_real_sweep_is_reported_and_made_again_from_the_report(swept: Any, tmp_path: Path) -> None:
    from experiments.evaluation.evaluate import run_evaluation
    from experiments.evaluation.spec_files import load_spec

    (run,) = swept.runs
    report = write_report(run, tmp_path / "dev")
    assert not report.left_out and (tmp_path / "dev" / "figures" / "heatmap.svg").is_file()
    drawn = pd.read_csv(tmp_path / "dev" / "figures" / "heatmap.csv")
    assert drawn["score"].tolist() == pytest.approx(swept.table["score"].tolist(), abs=1e-5)
    assert drawn["cell"][drawn["chosen"]].tolist() == [swept.winner.name]
    test = write_report(swept.test, tmp_path / "test", ("html", "md"))
    assert "development run" in dict(test.left_out)["layer by dose"]
    spec, vectors = load_spec(tmp_path / "test" / "spec.yaml", [], None)
    again = run_evaluation(spec, Store(tmp_path / "again"), vectors)
    assert again.manifest.run_id == swept.test.manifest.run_id
    assert again.table().equals(swept.test.table())
    assert recipe(gather(run)).sweep is not None


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_offline_without_a_fault(chromium: Any, hostile: Run, tmp_path: Path, scheme: str) -> None:
    write_report(hostile, tmp_path, ("html",))
    faults: list[str] = []
    context = chromium.new_context(offline=True, color_scheme=scheme, viewport={"width": 900, "height": 1000})
    page = context.new_page()
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith("file:") else faults.append(request.url))
    page.goto((tmp_path / "report.html").as_uri())
    assert page.evaluate("window.__xss") is None
    assert EVIL in page.locator("h1").inner_text()
    mark = page.locator("[data-tip]").first
    mark.scroll_into_view_if_needed()
    mark.hover(force=True)
    assert EVIL in page.locator("#tip").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 900
    context.close()
    assert faults == []
