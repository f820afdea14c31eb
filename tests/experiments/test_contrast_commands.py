"""`steer extract` and `steer vectors quality`: vectors with their reports beside them, labelled spans, and what is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from experiments.commands.quality import quality_tables
from experiments.studies.contrasts import ContrastSpec, measure
from experiments.studies.quality_files import Stored, quality_path, read_quality, write_quality
from experiments.studies.readings import prompt_reading, training_problems
from experiments.studies.sides import Where, text_sides
from experiments.tasks.own_texts import own_traces, text_lines
from steering.extraction import checkpoint_difference, label_means, label_vectors, labelled_trace, mean_difference
from steering.model.models import LoadedModel, load_model
from steering.model.prompts import token_texts
from steering.model.sites import Site
from steering.vector.vectors import SteeringVector
from tests.experiments.command_line import Steer, command
from tests.experiments.test_contrasts import HIGH, LOW, SITE


@pytest.fixture(scope="module")
def base() -> LoadedModel:
    return load_model("builtin:base")


@pytest.fixture
def steer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Steer:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "high.txt").write_text("\n".join(HIGH) + "\n\n")
    (tmp_path / "low.txt").write_text("\n".join(LOW))
    pairs = [{"positive": a, "negative": b, "id": k} for k, (a, b) in enumerate(zip(HIGH, LOW, strict=True))]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))

    return command(monkeypatch, capsys)


TWO = ("--positive", "high.txt", "--negative", "low.txt")


def test_too_few_texts_are_extracted_from_whole_and_it_is_said(steer: Steer, tmp_path: Path, base: LoadedModel) -> None:
    (tmp_path / "high.txt").write_text("\n".join(HIGH[:3]))
    (tmp_path / "low.txt").write_text("\n".join(LOW[:3]))
    quality_path(tmp_path / "v.safetensors").write_text("of an earlier vector")
    code, out, error = steer("extract", "v.safetensors", *TWO)
    assert code == 0 and json.loads(out)["quality"] is None and not quality_path(tmp_path / "v.safetensors").exists()
    assert "Not measured: 3 different sequences on a side are too few" in error
    assert "so all 3 and 3 sequences were extracted from" in error
    sides = text_sides(base, HIGH[:3], LOW[:3], Where())
    own = mean_difference(base, *sides.readings(Where()), [SITE], name="x", contrast="y")[SITE]
    assert torch.equal(SteeringVector.load(tmp_path / "v.safetensors").direction, own.direction)


def test_counts_are_of_sequences_whatever_is_read(steer: Steer, tmp_path: Path) -> None:
    """In one unit, which is named: texts, questions in a form and traces are sequences, however many tokens of them are read."""
    line: dict[str, Any] = {
        "text": "rules + 1 ; goal 3 start 4 ?",
        "spans": [{"start": 0, "end": 9, "label": "a"}, {"start": 12, "end": 20, "label": "b"}],
    }
    (tmp_path / "spans.jsonl").write_text(
        "\n".join(json.dumps(line | {"text": line["text"].replace("1", str(n))}) for n in range(2, 10))
    )
    for arguments in (
        (*TWO, "--read", "mean"),
        ("--pairs", "pairs.jsonl"),
        ("--contrast", "mode", "--n", 8),
        ("--n", 8),
        ("--spans", "spans.jsonl", "--label", "a"),
        ("--spans", "spans.jsonl", "--label", "a", "--method", "difference", "--read", "mean"),
    ):
        code, out, error = steer("extract", "v.safetensors", *arguments)
        assert code == 0, (arguments, error)
        counts = json.loads(out)["sequences"]
        (a, b), (c, d) = counts["extracted_from"], counts["held_out"]
        assert f"extracted from {a} and {b} sequences, separability on {c} and {d} held out." in error, (
            arguments,
            error,
        )


# ---- the verb -----------------------------------------------------------------------------------------------------------------


def test_texts_become_vectors_of_several_layers_and_reports_beside_them(
    steer: Steer, tmp_path: Path, base: LoadedModel
) -> None:
    code, out, error = steer("extract", "v-{layer}.safetensors", "--layers", "0,2", *TWO, "--read", "mean", "--seed", 3)
    written = json.loads(out)
    assert code == 0 and [w["site"] for w in written] == ["blocks.0.hook_resid_post", "blocks.2.hook_resid_post"]
    assert "Vector quality" in error and "held-out AUC" in error
    for facts in written:
        vector, stored = SteeringVector.load(facts["file"]), read_quality(Path(facts["file"]))
        assert stored is not None and stored.vector == vector.digest == facts["digest"] and stored.read == "mean"
        assert vector.name == "high - low" and "high.txt, low.txt" in vector.provenance.contrast
        assert (stored.seed, stored.share, stored.training, stored.held_out) == (3, 0.3, (7, 7), (3, 3))
    sides = text_sides(base, text_lines(tmp_path / "high.txt"), text_lines(tmp_path / "low.txt"), Where("mean"))
    training, _ = sides.split(0.3, 3) or pytest.fail("it can be divided")
    own = mean_difference(base, *training.readings(Where("mean")), [Site(2)], name="x", contrast="y")[Site(2)]
    assert SteeringVector.load("v-2.safetensors").digest == own.digest


def test_the_report_is_no_part_of_the_vector(steer: Steer, tmp_path: Path) -> None:
    assert steer("extract", "a.safetensors", *TWO, "--held-out", "0.3")[0] == 0
    before, stored = (tmp_path / "a.safetensors").read_bytes(), read_quality(Path("a.safetensors"))
    assert stored is not None
    assert Stored.model_validate_json(quality_path(Path("a.safetensors")).read_bytes()) == stored
    write_quality(Path("a.safetensors"), stored.model_copy(update={"seed": 9}))
    assert (tmp_path / "a.safetensors").read_bytes() == before
    # a report beside another vector, and one that is none
    assert steer("extract", "b.safetensors", *TWO, "--method", "logistic")[0] == 0
    quality_path(Path("b.safetensors")).write_bytes(quality_path(Path("a.safetensors")).read_bytes())
    code, out, error = steer("vectors", "quality", "b.safetensors")
    assert code == 2 and f"is the report of vector {stored.vector}" in error
    quality_path(Path("b.safetensors")).write_text("{}")
    code, out, error = steer("vectors", "quality", "b.safetensors")
    assert code == 2 and "holds no report" in error and "Traceback" not in error


def test_pairs_are_read_with_their_prompts_and_methods_by_name(steer: Steer, tmp_path: Path, base: LoadedModel) -> None:
    code, out, _ = steer("extract", "p.safetensors", "--pairs", "pairs.jsonl")
    assert code == 0 and SteeringVector.load("p.safetensors").provenance.method == "paired difference"
    assert read_quality(Path("p.safetensors")) is not None
    asked = [f"rules + {k} ; goal 31 start 42 91 ?" for k in range(2, 12)]
    records = [{"prompt": text, "positive": " think first", "negative": " be quick"} for text in asked]
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, records)))
    for method in ("paired", "principal", "logistic"):
        code, out, error = steer(
            "extract", f"{method}.safetensors", "--pairs", "asked.jsonl", "--method", method, "--held-out", 0
        )
        assert code == 0 and "nothing is held out" in error, error
    whole = text_sides(base, HIGH, LOW, Where(), paired=True)
    own = mean_difference(base, *whole.readings(Where()), [SITE], name="x", contrast="y")[SITE]
    assert torch.allclose(SteeringVector.load("paired.safetensors").direction, own.direction, atol=1e-4)
    # what is shared before the text is not read by the text's mean
    code, *_ = steer("extract", "mean.safetensors", "--pairs", "asked.jsonl", "--read", "mean", "--held-out", 0)
    (body,) = text_sides(base, [" think first"], [" be quick"], Where("mean"), prompts=asked[:1]).positive
    assert code == 0 and [t.strip() for t in token_texts(base, body.ids[slice(*body.spans[0])])] == ["think", "first"]


def test_prompt_forms_and_two_models_are_read_as_before(steer: Steer, base: LoadedModel) -> None:
    code, *_ = steer("extract", "mode.safetensors", "--contrast", "mode", "--n", 8, "--held-out", 0)
    problems = training_problems(8)
    high, low = (prompt_reading(base, problems, form) for form in ("think", "quick"))
    own = mean_difference(base, high, low, [SITE], name="x", contrast="y")[SITE]
    assert code == 0 and SteeringVector.load("mode.safetensors").digest == own.digest
    code, out, error = steer("extract", "gap.safetensors", "--n", 8, "--held-out", 0)
    other = checkpoint_difference(base, load_model("builtin:thinking"), prompt_reading(base, problems, "bare"), [SITE])[
        SITE
    ]
    assert code == 0 and SteeringVector.load("gap.safetensors").digest == other.digest
    code, out, error = steer("extract", "gap.safetensors", "--n", 8)
    assert code == 0 and json.loads(out)["quality"] == "gap.quality.json" and "held-out AUC" in error


TEXT = "Let me see. 3 + 4 = 7. Wait, that is wrong. So the answer is 8."


def span(part: str, label: str) -> dict[str, Any]:
    return {"start": TEXT.index(part), "end": TEXT.index(part) + len(part), "label": label}


def test_labelled_spans_give_a_vector_per_label(steer: Steer, tmp_path: Path, base: LoadedModel) -> None:
    parts = (("3 + 4 = 7.", "computing"), ("Wait, that is wrong.", "doubt"), ("So the answer is 8.", "concluding"))
    records: list[dict[str, Any]] = []
    for k in range(8):
        text, spans, at = f"{k} + {k}. ", [], 0
        for part, label in parts if k % 2 else parts[::-1]:
            at = len(text)
            text += part + " "
            spans.append({"start": at, "end": at + len(part), "label": label})
        records.append({"text": text, "spans": spans})
    (tmp_path / "spans.jsonl").write_text("\n".join(map(json.dumps, records)))
    code, out, error = steer("extract", "{label}-{layer}.safetensors", "--layers", "1,2", "--spans", "spans.jsonl")
    written = json.loads(out)
    assert code == 0 and len(written) == 6 and {w["label"] for w in written} == {"computing", "doubt", "concluding"}, (
        error
    )
    assert "does not know" in error, "English is unknown to the built-in tokenizer"
    traces = [labelled_trace(base, t.text, t.text_spans) for t in own_traces(tmp_path / "spans.jsonl")]
    code, *_ = steer("extract", "d.safetensors", "--spans", "spans.jsonl", "--label", "doubt", "--held-out", 0)
    own = label_vectors(base, label_means(base, traces, [SITE]))["doubt"][SITE]
    assert code == 0 and SteeringVector.load("d.safetensors").digest == own.digest
    # the same spans by another method, in tokens, and as the annotator writes them
    ids = [{"token_ids": t.token_ids, "spans": [vars(s) for s in t.spans]} for t in traces]
    (tmp_path / "ids.jsonl").write_text("\n".join(map(json.dumps, ids)))
    code, *_ = steer("extract", "i.safetensors", "--spans", "ids.jsonl", "--label", "doubt", "--held-out", 0)
    assert code == 0 and SteeringVector.load("i.safetensors").digest == own.digest
    written_by = [
        {"thinking_process": r["text"], "annotated_response": "".join(
            f'["{s["label"]}"]{r["text"][s["start"]:s["end"]]}["end-section"]' for s in r["spans"])}
        for r in records
    ]  # fmt: skip
    (tmp_path / "published.json").write_text(json.dumps(written_by))
    code, *_ = steer("extract", "a.safetensors", "--spans", "published.json", "--label", "doubt", "--held-out", 0)
    assert code == 0 and SteeringVector.load("a.safetensors").digest == own.digest
    for read in ("mean", "first", "last"):
        code, out, error = steer(
            "extract",
            "l.safetensors",
            "--spans",
            "ids.jsonl",
            "--label",
            "doubt",
            "--method",
            "difference",
            "--read",
            read,
        )
        assert code == 0 and read_quality(Path("l.safetensors")) is not None, error


def test_stored_reports_are_printed_and_vectors_measured_on_other_texts(
    steer: Steer, tmp_path: Path, base: LoadedModel
) -> None:
    steer("extract", "v.safetensors", *TWO)
    steer("extract", "w.safetensors", *TWO, "--held-out", 0)
    code, out, error = steer("vectors", "quality", "v.safetensors", "w.safetensors", "--json")
    one, two = json.loads(out)
    stored = read_quality(Path("v.safetensors"))
    assert code == 3 and stored is not None and two["report"] is None and "no report beside" in two["said"]
    assert one["report"] == json.loads(json.dumps(stored.report.to_dict()))
    assert "extracted from 7 and 7 sequences, separability on 3 and 3 held out" in one["said"]
    code, out, error = steer("vectors", "quality", "v.safetensors")
    assert code == 0 and "high - low" in out and "blocks.1.hook_resid_post" in out and "held-out AUC" in out
    code, out, error = steer("vectors", "quality", "w.safetensors")
    assert (code, out) == (1, "") and "no report beside" in error
    (tmp_path / "other-high.txt").write_text("\n".join(t.replace("31", "77") for t in HIGH))
    (tmp_path / "other-low.txt").write_text("\n".join(t.replace("31", "77") for t in LOW))
    own = ("--model", "builtin:base", "--positive", "other-high.txt", "--negative", "other-low.txt")
    code, out, error = steer("vectors", "quality", "v.safetensors", *own, "--json")
    (found,) = json.loads(out)
    sides = text_sides(base, text_lines(tmp_path / "other-high.txt"), text_lines(tmp_path / "other-low.txt"), Where())
    spec = ContrastSpec(sites=(str(SITE),), held_out=0.5)
    report = measure(base, SteeringVector.load("v.safetensors"), sides, spec)
    assert code == 0 and found["said"] == "" and found["report"] == json.loads(json.dumps(report.to_dict()))
    code, out, error = steer("vectors", "quality", "v.safetensors", "w.safetensors", "--model", "builtin:base", *TWO)
    assert (
        code == 0 and "extracted from 14 of the 20 different texts" in error and "It is not known which texts" in error
    )


def test_reports_fit_the_terminal(steer: Steer) -> None:
    steer("extract", "v.safetensors", *TWO)
    stored = read_quality(Path("v.safetensors"))
    assert stored is not None
    for width in (60, 80, 120, 180, 250):
        console = Console(width=width, record=True, file=io.StringIO())
        for table in quality_tables([stored.report] * 5, width):
            console.print(table)
        text = console.export_text()
        assert "…" not in text and text.count("high - low") == 5
        assert text.count("blocks.1.hook_resid_post") == 5, "whole names, not cut to the column"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--positive", "high.txt"), "Give both --positive and --negative"),
        ((*TWO, "--pairs", "pairs.jsonl"), "one contrast at a time"),
        (("--positive", "gone.txt", "--negative", "low.txt"), "There is no file gone.txt"),
        (("--positive", "empty.txt", "--negative", "low.txt"), "empty.txt holds no text"),
        (("--positive", "latin.txt", "--negative", "low.txt"), "latin.txt, line 1 is not UTF-8"),
        (("--positive", "short.txt", "--negative", "low.txt", "--method", "paired"), "there are 2 and 10"),
        (("--pairs", "high.txt"), "records are read from .jsonl"),
        (("--pairs", "bad.jsonl"), "bad.jsonl, row 0: negative is needed"),
        (("--pairs", "half.jsonl"), "half.jsonl: 1 of 2 pairs have a prompt"),
        ((*TWO, "--contrast", "mode"), "--contrast mode reads a task's questions, not files"),
        (("--contrast", "texts"), "--contrast texts needs --positive"),
        (("--contrast", "text"), "Did you mean 'texts'"),
        ((*TWO, "--forms", "think"), "--forms think is for a task's questions"),
        ((*TWO, "--prompts", "high.txt"), "--prompts goes with --contrast checkpoint"),
        ((*TWO, "--texts", "chats"), "Did you mean 'chat'"),
        ((*TWO, "--texts", "chat"), "has no chat template"),
        (("--contrast", "mode", "--texts", "chat"), "--texts chat is for"),
        ((*TWO, "--read", "lats"), "Did you mean 'last'"),
        ((*TWO, "--read", "index:40"), "Positive text 1 has"),
        ((*TWO, "--read", "window"), "is the window of a labelled span"),
        ((*TWO, "--method", "optimised"), "needs continuations to make likelier"),
        ((*TWO, "--method", "principle"), "Did you mean 'principal'"),
        ((*TWO, "--held-out", "1"), "held_out"),
        ((*TWO, "--site", "blocks.9.hook_resid_post"), "4 layers, 0 to 3"),
        ((*TWO, "--label", "x"), "--label names labels of --spans"),
        (("--spans", "spans.jsonl"), "put {label} into the name"),
        (("--spans", "spans.jsonl", "--label", "dout"), "Did you mean 'doubt'"),
        (
            ("--spans", "outside.jsonl"),
            "outside.jsonl, row 0: span 'a' (2, 90) is empty or not inside its 5 characters",
        ),
        (("--spans", "spans.jsonl", "--read", "mean"), "reads its own window"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_does_not_fit_is_refused_before_the_model_runs(
    words: tuple[str, ...], said: str, steer: Steer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "latin.txt").write_bytes("naïve\n".encode("latin-1"))
    (tmp_path / "short.txt").write_text("\n".join(HIGH[:2]))
    (tmp_path / "bad.jsonl").write_text('{"positive": "a"}\n')
    (tmp_path / "half.jsonl").write_text(
        '{"positive": "a", "negative": "b"}\n{"positive": "a", "negative": "b", "prompt": "c"}\n'
    )
    (tmp_path / "spans.jsonl").write_text(
        json.dumps({"text": TEXT, "spans": [span("Wait", "doubt"), span("So", "end")]})
    )
    (tmp_path / "outside.jsonl").write_text('{"text": "short", "spans": [{"start": 2, "end": 90, "label": "a"}]}')
    monkeypatch.setattr("steering.extraction.samples.capture", lambda *a, **k: pytest.fail("the model ran"))
    monkeypatch.setattr("steering.model.capture.capture", lambda *a, **k: pytest.fail("the model ran"))
    code, out, error = steer("extract", "v.safetensors", *words)
    assert (code, out) == (2, "") and said in error and "Traceback" not in error, error
    assert not list(tmp_path.glob("v*"))
