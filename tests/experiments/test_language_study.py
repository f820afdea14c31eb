"""The language study on a tiny random model: its runs are ordinary runs, nothing is made twice, what cannot run is refused, and its page
says what the sweep's verdict says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from experiments.commands.cli import app
from experiments.report import write_report
from experiments.report.language import Section, _as_html, write_language
from experiments.report.language_tables import Written, overview, shown
from experiments.store.runs import Run, Store
from experiments.studies.language import run as study
from experiments.studies.language.damage import repeated_share
from experiments.studies.language.directions import DIRECTIONS, Direction
from experiments.studies.language.run import Finding, run_language
from experiments.studies.language.spec import LanguageSpec, quick
from experiments.studies.language.texts import labelled, pairs
from experiments.sweeps.cells import read_card
from experiments.tasks.task import DatasetTask, resolve_task
from steering.errors import BadInput
from steering.model.models import LoadedModel, wrap
from steering.vector.vectors import SteeringVector
from tests.tiny import tiny
from tests.written_gguf import byte_tokenizer, source_model

SPEC = LanguageSpec(
    model="tiny", layers=(0.4,), pairs=8, development=2, test=2, problems=2, new_tokens=5, answer_tokens=5, random=2,
    random_on_test=4, examples=24,
)  # fmt: skip
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return wrap(source_model("llama", max_position_embeddings=1024), byte_tokenizer(), id="tiny")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, model: LoadedModel) -> tuple[Store, list[Finding]]:
    store = Store(tmp_path_factory.mktemp("language"))
    return store, run_language(SPEC, store, models={"tiny": model}, console=QUIET)


@pytest.fixture
def quick_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of runs as empty files: `test_every_direction_is_two_ordinary_runs` writes real ones."""

    def write(run: Run, folder: Path, formats: tuple[str, ...]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.html").write_text(run.manifest.run_id)

    monkeypatch.setattr("experiments.report.language.write_report", write)


def test_every_direction_is_two_ordinary_runs(made: tuple[Store, list[Finding]], tmp_path: Path) -> None:
    store, findings = made
    assert [one.direction.name for one in findings] == list(DIRECTIONS)
    listed = {entry.run_id for entry in store.list() if entry.manifest and entry.manifest.status == "complete"}
    assert listed == {run.manifest.run_id for one in findings for run in (one.development, one.test)}
    for one in findings:
        cells = len(one.direction.doses)
        development = [arm.role for arm in one.development.manifest.arms]
        assert development == ["baseline", *(["steered"] + ["control"] * SPEC.random) * cells]
        tested = [arm.role for arm in one.test.manifest.arms]
        assert tested == ["baseline", "prompt", "steered", *["control"] * (SPEC.random_on_test + 1)]
        assert read_card(one.test)["sweep"] == read_card(one.development)["sweep"]
        assert set(one.development.manifest.splits) == {"development"} and set(one.test.manifest.splits) == {"test"}
        assert "/" not in json.dumps(one.test.manifest.spec["task"]), "a run goes on wherever the package lies"
        written = write_report(one.test, tmp_path / one.direction.name, ("html", "md"))
        assert not written.partial and not written.doubts


def test_edits_lie_at_the_last_prompt_token_and_every_generated_one(made: tuple[Store, list[Finding]]) -> None:
    for one in made[1]:
        for row in one.test.table(arms=[one.sweep.winner.name]).to_pylist():
            fired = [n for n, size in enumerate(row["edit_ratio"]) if size > 0]
            last = len(row["prompt_ids"]) + len(row["token_ids"]) - 1
            assert fired == list(range(len(row["prompt_ids"]) - 1, last)), "no token is predicted from the last one"
            assert row["edits_fired"] == row["edits_planned"] == len(fired)


def test_vectors_come_from_training_texts_and_are_measured_on_others(
    made: tuple[Store, list[Finding]], model: LoadedModel
) -> None:
    store, findings = made
    for one in findings:
        ((layer, found),) = one.quality.items()
        folder = study.parts_folder(store, one.direction, SPEC, model)
        vector = SteeringVector.load(folder / f"{one.direction.name}-{layer}.safetensors")
        assert (vector.digest, vector.site.layer, vector.provenance.model) == (
            found["digest"],
            int(layer),
            model.fingerprint,
        )
        assert one.direction.contrast in vector.provenance.contrast
        assert 0 < found["separability"]["auc"]["low"] <= found["separability"]["auc"]["value"]
        assert one.development.manifest.facts["vectors"].keys() >= {vector.digest}


def test_a_second_call_makes_nothing_anew(
    made: tuple[Store, list[Finding]], model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, findings = made
    monkeypatch.setattr(
        "experiments.evaluation.records.generate", lambda *a, **k: pytest.fail("a stored row was redone")
    )
    for name in ("extracted", "quality", "fitted", "damage"):
        monkeypatch.setattr(study, name, lambda *a, name=name, **k: pytest.fail(f"{name} was made twice"))
    again = run_language(SPEC, store, models={"tiny": model}, console=QUIET)
    for before, after in zip(findings, again, strict=True):
        assert [r.manifest.run_id for r in (before.development, before.test)] == [
            r.manifest.run_id for r in (after.development, after.test)
        ]
        assert (before.quality, before.damage, before.probe) == (after.quality, after.damage, after.probe)
        assert before.sweep.verdict == after.sweep.verdict


@pytest.mark.usefixtures("quick_reports")
def test_the_page_says_what_was_found_and_how_it_was_graded(made: tuple[Store, list[Finding]], tmp_path: Path) -> None:
    _, findings = made
    written = write_language(findings, SPEC, "steer demo --model tiny", tmp_path / "one")
    page, text = written[0].read_text(), written[1].read_text()
    assert "default-src 'none'" in page and "http" not in page.replace("http-equiv", "")
    for one in findings:
        assert one.direction.title in page and one.direction.title in text
        assert f'href="runs/{one.test.manifest.run_id}/report.html"' in page
        assert (tmp_path / "one" / "runs" / one.test.manifest.run_id / "report.html").is_file()
        assert page.count(f'id="dose-{one.direction.name}-figure_1"') == 1, (
            "figures of one page have names of their own"
        )
    assert page.count("This run shows no effect of the direction beyond that of random ones.") == len(findings)
    assert "among en, fr, de, es; letters 12; likely 0.8" in page and "threshold 0.05" in page, "graders are stated"
    assert "4 random directions" in page and "The grader&#x27;s error" in page and "no evidence" not in page
    assert "Nothing here is evidence about reasoning in large models" in page
    again = write_language(findings, SPEC, "steer demo --model tiny", tmp_path / "two")
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in written]


def test_the_first_sentence_follows_the_verdict(made: tuple[Store, list[Finding]]) -> None:
    finding = made[1][0]
    for real, said, word in (
        (True, "does what it is named after", "real"),
        (False, "shows no effect", "not called real"),
        (None, "shows no effect", "not told"),
    ):
        changed = replace(finding, sweep=replace(finding.sweep, verdict=replace(finding.sweep.verdict, real=real)))
        assert said in shown(changed)
        assert overview([changed]).rows[0][-1].text == word


def test_damage_beyond_what_the_request_costs_is_pointed_out(made: tuple[Store, list[Finding]]) -> None:
    finding = made[1][0]
    run_id, cell = finding.test.manifest.run_id, finding.sweep.winner.name
    for own, repeated, theirs, told in (
        (-3.0, 0.0, 0.0, None),
        (-4.0, 0.0, 0.0, "less likely than text written on request."),
        (-3.0, 0.5, 0.1, "repeat themselves more than unsteered ones."),
        (-3.0, 0.5, 0.5, "repeat themselves more than unsteered ones, as those written on request do."),
    ):
        costs = {
            **finding.damage[run_id],
            "baseline": {"texts": 2, "repeated": 0.1, "logprob": -2.0},
            "prompted": {"texts": 2, "repeated": theirs, "logprob": -2.8},
            cell: {"texts": 2, "repeated": repeated, "logprob": own},
        }
        said = shown(replace(finding, damage={**finding.damage, run_id: costs}))
        assert ("Part of the effect may be damage" in said) is (told is not None)
        assert told is None or told in said


def test_what_a_model_wrote_stays_text() -> None:
    block = Written("Prompt <1>", "<b>The", (("a & b", "</mark><script>alert(1)</script>"),))
    page = _as_html("t<", [Section("x", "<h>", (block, "a < b", ("<link>", "a.html")))])
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page and "<b>The" not in page


def test_repeated_3_grams_are_counted() -> None:
    assert repeated_share([1, 2]) == repeated_share([1, 2, 3, 4]) == 0
    assert repeated_share([1, 2, 3] * 3) == pytest.approx(4 / 7)
    assert repeated_share([5] * 6) == pytest.approx(3 / 4)


def test_damage_is_read_without_the_edits(made: tuple[Store, list[Finding]], model: LoadedModel) -> None:
    import torch

    finding = made[1][0]
    rows_ = finding.test.table(columns=["arm", "item", "prompt_ids", "token_ids", "logprob"]).to_pylist()
    plain = {r["item"]: r["prompt_ids"] for r in rows_ if r["arm"] == "baseline"}
    for arm in ("baseline", "prompted", finding.sweep.winner.name):
        means = []
        for row in (r for r in rows_ if r["arm"] == arm):
            ids, prompt = [i for i in row["token_ids"] if i not in model.eos_ids], plain[row["item"]]
            if not ids:
                continue
            with torch.inference_mode():
                read = model.model(torch.tensor([[*prompt, *ids]])).logits[0].log_softmax(-1)
            means.append(sum(float(read[len(prompt) - 1 + n, i]) for n, i in enumerate(ids)) / len(ids))
        found = finding.damage[finding.test.manifest.run_id][arm]
        assert found["logprob"] == pytest.approx(sum(means) / len(means), abs=1e-4)


@pytest.mark.parametrize("name", ["builtin:base", "builtin:thinking"])
def test_a_model_of_the_built_in_pair_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="without --model"):
        run_language(LanguageSpec(model=name), Store(tmp_path), console=QUIET)


def test_a_model_that_cannot_read_the_texts_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot read the study's texts"):
        run_language(SPEC, Store(tmp_path / "runs"), models={"tiny": tiny("llama")}, console=QUIET)
    assert not (tmp_path / "runs").exists()


def test_a_store_that_is_not_local_is_refused(model: LoadedModel) -> None:
    with pytest.raises(BadInput, match="folder of this machine"):
        run_language(SPEC, Store("memory://language"), models={"tiny": model}, console=QUIET)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--quick"], "belong to a language model"),
        (["--workers", "1"], "belong to a language model"),
        (["--model", "smollm2", "--n", "4"], "--quick"),
        (["--model", "builtin:base"], "without --model"),
        (["--model", "./no-such-folder"], "no-such-folder"),
    ],
)
def test_the_verb_refuses_what_does_not_go_together(given: list[str], said: str, tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["demo", "--runs", str(tmp_path / "runs"), *given])
    assert isinstance(found.exception, BadInput)
    assert said in str(found.exception)
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("quick_reports")
def test_the_verb_writes_the_table_the_verdicts_and_the_page(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "load", lambda name, loading: model)
    monkeypatch.setattr("experiments.studies.language.spec.quick", lambda name: SPEC.model_copy(update={"model": name}))
    place = [
        "--runs",
        str(tmp_path / "runs"),
        "-o",
        str(tmp_path / "page"),
        "--quick",
        "--workers",
        "0",
        "--model",
        "tiny",
    ]
    found = CliRunner().invoke(app, ["demo", *place])
    assert found.exit_code == 0, found.exception
    assert "French minus English" in found.stdout and "described, not tested" in found.stdout
    assert str(tmp_path / "page" / "index.html") in found.stdout.replace("\n", "")
    assert "steer demo --model tiny --quick" in (tmp_path / "page" / "index.md").read_text().replace("\\", "")
    document = CliRunner().invoke(app, ["demo", *place, "--json"])
    assert '"grader_error"' in document.stdout and document.exit_code == 0


def test_quick_is_smaller_in_everything_and_can_still_reach_a_verdict() -> None:
    small, whole = quick("smollm2"), LanguageSpec()
    for name in ("development", "test", "problems", "new_tokens", "answer_tokens", "random"):
        assert getattr(small, name) < getattr(whole, name)
    assert small.random >= 19 and small.random_on_test >= 39 and len(small.layers) == 1
    assert whole.sites(30) == (12, 15) and whole.sites(2) == (1,) and LanguageSpec(layers=(0.01,)).sites(4) == (0,)


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_a_model_without_a_chat_template_is_asked_in_plain_text(direction: Direction, model: LoadedModel) -> None:
    for asked, chat in ((tiny("llama"), False), (model, bool(direction.request))):
        task = resolve_task(direction.task(asked))
        (item, *_) = task.items("test", 2)
        assert isinstance(task, DatasetTask) and task.asked["asked"].chat is chat
        assert item.data.question in task.prompt(item, "asked") != task.prompt(item, "bare")


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_no_text_has_two_uses(direction: Direction) -> None:
    train, held_out = pairs(direction.name, "train"), pairs(direction.name, "held-out")
    assert (len(train.positive), len(held_out.positive)) == (24, 12)
    sides = [set(side) for part in (train, held_out) for side in (part.positive, part.negative)]
    assert len(set().union(*sides)) == sum(map(len, sides)) == 72
    task = resolve_task({"dataset": direction.prompts, "answer": direction.name, "grader": direction.grader})
    sizes = {"development": 12, "test": 24} if direction.name == "steps" else {"development": 16, "test": 32}
    items = [item for split, n in sizes.items() for item in task.items(split, n)]
    prompts = [item.data.question for item in items]
    assert len(set(prompts)) == len(prompts) and not set(prompts) & set().union(*sides)
    assert all(task.grade(item, "12").grader == direction.grading().name for item in items), (
        "every right answer can be graded"
    )
    if direction.labelled:
        found = labelled(direction.labelled)
        classes = {label: [t for t, one in found if one == label] for _, label in found}
        assert all(len(set(texts)) == len(texts) == 100 for texts in classes.values())
        assert not {text for text, _ in found} & {*set().union(*sides), *prompts}


@pytest.mark.language
@pytest.mark.slow
def test_french_rises_with_the_dose_beyond_every_random_direction(smollm2: LoadedModel, tmp_path: Path) -> None:
    spec = LanguageSpec(layers=(0.4,), development=6, test=8, new_tokens=12, random=4, random_on_test=8)
    (found,) = run_language(spec, Store(tmp_path), models={"smollm2": smollm2}, directions=("language",), console=QUIET)
    table = found.sweep.table.sort_values("dose")
    assert table["accuracy"].is_monotonic_increasing and table["accuracy"].iloc[-1] >= 0.5
    assert (table["unsteered"] == 0).all() and float(table["control_high"].max()) <= 0.2
    assert found.sweep.verdict.against is not None and found.sweep.verdict.against.as_good == 0
    ((_, quality),) = found.quality.items()
    assert quality["separability"]["auc"]["low"] > 0.95 and quality["sinks_left_out"] == 48
