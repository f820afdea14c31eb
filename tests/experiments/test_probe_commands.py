"""`steer probe` on the built-in models, and its targets and exact labels."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.table import Table

from experiments.commands.cli import main
from experiments.commands.labels import cell, line
from experiments.pair.verifier import verify
from experiments.studies.probing import TARGETS, builtin_examples, exact_first_label, exact_labels, responses
from experiments.studies.readings import training_problems
from probes.forks import Forks, fork_positions
from probes.probe import Probe
from probes.stability import Boundary, stability
from steering.extraction.separability import Interval
from steering.model.models import LoadedModel, load_model


@pytest.fixture(scope="module")
def base() -> LoadedModel:
    return load_model("builtin:base")


@pytest.fixture(scope="module")
def thinking() -> LoadedModel:
    return load_model("builtin:thinking")


class Steer:
    """Runs the command line in this process: (exit code, standard output, standard error)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *arguments: object) -> tuple[Any, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["steer", "probe", *map(str, arguments)])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        told = self.capsys.readouterr()
        return ended.value.code or 0, told.out, told.err


@pytest.fixture
def steer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Steer:
    return Steer(monkeypatch, capsys)


def test_exact_labels_are_the_verifiers_in_the_common_record(thinking: LoadedModel) -> None:
    (response,) = responses(thinking, training_problems(1), "think")
    assert response.verdict.labels and len(response.labels) == len(response.verdict.labels)
    for label, span in zip(response.labels, response.verdict.labels, strict=True):
        assert (label.label, label.start, label.end) == (span.label, span.start, span.end)
        assert label.confidence == 1.0 and label.detector == "grammar" and label.unit == "tokens"
    words = [thinking.tokenizer.decode([t]) for t in response.token_ids]
    assert exact_labels(verify(response.problem, words)) == response.labels


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_of_the_task_has_examples_in_groups_of_rule_chains(target: str, base: LoadedModel) -> None:
    found = builtin_examples(target, base, 96)
    chains = {p.chain for p in training_problems(96)}
    assert set(found.groups) <= chains and found.n == len(found.y) and len(found.classes) >= 2
    assert min(found.counts.values()) > 0
    if target == "reasons":
        read = {s[p] for s, row in zip(found.reading.sequences, found.reading.positions, strict=True) for p in row}
        assert len(read) == 1, "the same token everywhere, so the token read gives nothing away"


def test_resampling_before_the_end_of_a_line_keeps_what_the_grammar_forces(thinking: LoadedModel) -> None:
    (response,) = responses(thinking, training_problems(1), "think")
    tested = next(s for s in response.labels if s.label == "backtracking")
    boundary = Boundary(response.prompt_ids, response.token_ids, tested)
    (found,) = stability(thinking, [boundary], exact_first_label(response.problem, thinking), n=12)
    assert response.words[tested.start - 1] == "no" and found.kept == 12, (
        "after `goal G no` the model always turns back"
    )


def test_fit_show_and_use_a_probe(steer: Steer, tmp_path: Path, base: LoadedModel) -> None:
    path = tmp_path / "difficulty.safetensors"
    arguments = ("fit", "--target", "difficulty", "--model", "builtin:base", "--site", "blocks.1.hook_resid_post")
    code, out, err = steer(*arguments, "--problems", 160, "--out", path, "--json")
    assert code == 0, err
    document = json.loads(out)
    evaluation = document["evaluation"]
    assert evaluation["auroc"]["value"] > 0.95 and evaluation["tokens"]["difference"]["low"] > 0.2
    assert evaluation["selectivity"]["difference"]["low"] > 0.2 and evaluation["repeated"] == 0
    probe = Probe.load(path)
    probe.check(base)
    assert probe.digest == document["digest"] and probe.provenance.model == base.fingerprint
    found = builtin_examples("difficulty", base, 160, seed=1)
    p = probe.probabilities(found.activations(base, [probe.site])[probe.site])
    assert (p.argmax(-1).numpy() == np.array(found.y)).mean() > 0.8, "it holds on problems of another seed"
    code, out, _ = steer("show", path, "--json")
    shown = json.loads(out)
    assert code == 0 and shown["digest"] == probe.digest and shown["notes"]["held out"]["auroc"] == evaluation["auroc"]
    code, out, _ = steer("show", path)
    assert code == 0 and "held out selectivity" in out and "builtin:base" in out


def test_a_map_as_json_is_one_document(steer: Steer) -> None:
    code, out, err = steer(
        "map", "--target", "difficulty", "--model", "builtin:base", "--problems", 160, "--sites", "blocks.{0,2}.hook_resid_post",
        "--offsets=-1,0", "--json",
    )  # fmt: skip
    assert code == 0 and "cells" in err
    cells = {(c["site"], c["position"]): c for c in json.loads(out)}
    assert len(cells) == 4 and cells["blocks.2.hook_resid_post", "0"]["auroc"] > 0.9
    assert cells["blocks.2.hook_resid_post", "0"]["tokens"] < 0.7


def test_examples_of_any_model_come_from_a_file(steer: Steer, tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl"
    lines = [
        {
            "text": f"rules + {i} ; goal {i % 50} start {i % 9} ?",
            "label": "even" if i % 2 else "odd",
            "group": str(i // 2),
        }
        for i in range(2, 60)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    code, out, err = steer(
        "fit", "--examples", path, "--model", "builtin:base", "--kind", "mass-mean", "--out", tmp_path / "p.safetensors"
    )
    assert code == 0, err
    assert str(tmp_path / "p.safetensors") in out.replace("\n", "")
    path.write_text('{"text": "a ?", "label": "x"}\n{"text": "b"}\n')
    code, _, err = steer("fit", "--examples", path, "--model", "builtin:base", "--out", tmp_path / "q.safetensors")
    assert code == 2 and "line 2" in err


def test_forks_are_told_by_token_label_and_place_and_moved_by_a_plan(steer: Steer, tmp_path: Path) -> None:
    from tests.tiny import vector

    path = vector(width=128, norm=4.0).save(tmp_path / "v.safetensors")
    code, out, err = steer("forks", "--problems", 12, "--plan", f"add {path} 1v on generated", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert 0.19 < facts["share"] < 0.25 and sum(t["forks"] for t in facts["tokens"]) == round(
        facts["share"] * facts["n"]
    )
    by_label = {row["label"]: row["share"] for row in facts["labels"]}
    assert by_label["backtracking"] < by_label["computing"]
    assert facts["shift"]["threshold"] == facts["threshold"] and facts["shift"]["rows"] == 12
    assert facts["shift"]["before"]["value"] == pytest.approx(facts["share"])
    assert facts["shift"]["tokens_moved"] > 0


def test_stability_is_told_per_span_and_in_all(steer: Steer) -> None:
    code, out, err = steer(
        "stability", "--behaviour", "checking", "--problems", 12, "--spans", 3, "--samples", 8, "--json"
    )
    assert code == 0, err
    found = json.loads(out)
    assert found["n"] == 8 * len(found["spans"]) == 24 and found["kept"] == sum(s["kept"] for s in found["spans"])
    assert found["share"]["low"] <= found["kept"] / found["n"] <= found["share"]["high"]
    assert all(s["detector"] == "grammar" and sum(s["found"].values()) == 8 for s in found["spans"])


def test_a_number_that_there_is_not_is_said_in_words() -> None:
    nan = float("nan")
    assert cell(nan, nan, nan) == "not defined" and cell(0.5, nan, nan) == "0.50 [no interval]"
    assert cell(0.5, 0.25, 0.75, 3) == "0.500 [0.250, 0.750]"
    table = Table("measure", "value", "95 %")
    line(table, "auroc", Interval(nan, nan, nan))
    line(table, "brier", Interval(0.5, nan, nan))
    assert [list(column.cells) for column in table.columns[1:]] == [["not defined", "0.500"], ["no interval"] * 2]


def test_places_without_a_token_have_no_share_of_forks(monkeypatch: pytest.MonkeyPatch, steer: Steer) -> None:
    facts = {
        "threshold": 1.0, "share": 0.5, "n": 2, "labelled_by": "grammar", "tokens": [], "labels": [], "shift": None,
        "positions": fork_positions(Forks(1.0, (np.array([True]), np.array([False])), 0.5)).to_dict("records"),
    }  # fmt: skip
    monkeypatch.setattr("experiments.studies.forks.fork_report", lambda *_: facts)
    code, out, err = steer("forks", "--problems", 2)
    assert code == 0 and "nan" not in out and "no token there" in out, err


def test_a_behaviour_that_does_not_occur_is_no_unknown_one(steer: Steer) -> None:
    asked = (
        "--task",
        "short:addition",
        "--form",
        "direct",
        "--model",
        "builtin:base",
        "--problems",
        2,
        "--max-new-tokens",
        8,
    )
    code, _, err = steer("stability", "--behaviour", "backtracking", *asked)
    assert code == 2 and "backtracking does not occur in the 2 responses of builtin:base to short:addition" in " ".join(
        err.split()
    )
    code, _, err = steer("stability", "--behaviour", "backtraking", *asked)
    assert code == 2 and "Did you mean 'backtracking'" in err


def test_labels_on_the_command_line_carry_detector_and_confidence(steer: Steer, tmp_path: Path) -> None:
    text = tmp_path / "trace.txt"
    text.write_text("Okay, so I need to add. I remember that 2 and 3 make 5. Wait, no, that is wrong.")
    code, out, _ = steer("label", text)
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [f["label"] for f in found] == ["initializing", "adding-knowledge", "backtracking"]
    assert all(f["detector"] == "lexicon" and f["confidence"] < 1 for f in found)
    code, _, err = steer("label", text, "--by", "judge", "--base-url", "http://127.0.0.1:9/v1", "--judge", "m")
    assert code == 1 and "no connection" in err and "Traceback" not in err
    code, _, err = steer("label", text, "--by", "judge")
    assert code == 2 and "--base-url" in err


@pytest.mark.slow
def test_labellers_are_scored_and_the_trained_one_is_written(steer: Steer, tmp_path: Path, shared_data: Path) -> None:
    traces = shared_data / "published" / "annotated_traces_qwen2.5-1.5b-instruct.json"
    if not traces.is_file():
        pytest.skip(f"{traces.name} is not among the published files")
    path = tmp_path / "labeller.safetensors"
    code, out, err = steer("labellers", "--traces", traces, "--out", path, "--json")
    assert code == 0, err
    assert json.loads(out)[traces.name]["differences"]["trained"]["low"] > 0
    text = tmp_path / "trace.txt"
    text.write_text("To determine the sum, we need to follow these steps. The total number is 5.")
    code, out, _ = steer("label", text, "--by", path)
    first = json.loads(out.splitlines()[0])
    assert code == 0 and first["label"] == "initializing" and first["detector"].startswith("sentence classifier")


def test_mistakes_end_with_one_message(steer: Steer, tmp_path: Path) -> None:
    out = tmp_path / "p.safetensors"
    for arguments, told in (
        (("fit", "--target", "dificulty", "--out", out), "Did you mean 'difficulty'"),
        (("fit", "--kind", "svm", "--out", out), "kind of probe"),
        (("fit", "--site", "blocks.9.hook_resid_post", "--out", out), "blocks.9"),
        (("fit", "--out", tmp_path / "p.pt"), ".safetensors"),
        (("show", tmp_path / "none.safetensors"), "No probe file"),
        (("map", "--offsets", "a"), "no list of whole numbers"),
        (("labellers", "--traces", tmp_path / "none.json"), "No annotated traces"),
        (("stability", "--behaviour", "backtrack"), "Did you mean 'backtracking'"),
        (("forks", "--form", "thin"), "Did you mean 'think'"),
    ):
        code, _, err = steer(*arguments)
        assert code == 2 and told in err and "Traceback" not in err, arguments
