"""What pushing and pulling say beside their data, and what a card says of its evidence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.store.runs import Store
from experiments.studies.vector_evidence import run_evidence
from steering.vector.exchange import repository_files
from steering.vector.hub.contents import to_bytes
from steering.vector.vectors import SteeringVector
from tests.experiments.command_line import Steer
from tests.experiments.fake_run import make_rows
from tests.experiments.test_hub_commands import hub, own, steer, stored
from tests.fake_hub import FakeHub

__all__ = ["hub", "own", "steer"]


def test_a_hub_that_does_not_answer_is_said_in_a_sentence(
    steer: Steer, hub: FakeHub, own: SteeringVector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.save("own.safetensors")
    commit, real = "a" * 40, "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert steer("vectors", "push", "own.safetensors", "me/own", "--base-model", real, "--base-commit", commit)[0] == 0
    assert steer("vectors", "search", "--base", real)[1].startswith(f"me/own\t{real}\t")
    assert steer("vectors", "push", "own.safetensors", "me/more", "--force")[0] == 0
    for name in ("me/own", "me/more"):
        assert "Warning" not in steer("vectors", "pull", name)[2]
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, _, err = steer("vectors", "pull", "me/own")
    assert code == 0 and "Warning: The hub at http://127.0.0.1:9 does not answer for me/own" in err
    assert "NotAnswering" not in err and "warnings.warn" not in err
    assert "does not answer for me/more" in steer("plan", "show", "add hub:me/more 1v on generated")[2]


def test_a_commit_without_a_repository_is_said_and_a_dry_run_overwrites_nothing(
    steer: Steer, hub: FakeHub, own: SteeringVector, tmp_path: Path
) -> None:
    replace(own, provenance=replace(own.provenance, model_id="my.gguf")).save("my.safetensors")
    code, _, err = steer("vectors", "push", "my.safetensors", "me/my", "--base-commit", "a" * 40)
    assert code == 0 and "my.gguf is no repository's name" in err and "--base-model OWNER/NAME" in err
    replace(own, provenance=replace(own.provenance, model_id="smollm2")).save("own.safetensors")
    code, _, err = steer("vectors", "push", "own.safetensors", "me/own", "--base-commit", "a" * 40)
    assert code == 0 and "is no repository's name" not in err, "its repository is known"
    named = ("--base-commit", "a" * 40, "--base-model", "HuggingFaceTB/SmolLM2-135M-Instruct")
    code, _, err = steer("vectors", "push", "own.safetensors", "me/own", *named)
    assert code == 0 and "is no repository's name" not in err
    assert "base model smollm2 of HuggingFaceTB/SmolLM2-135M-Instruct" in steer("vectors", "pull", "me/own")[2]
    code, _, err = steer(
        "vectors", "push", "own.safetensors", "me/own", *named, "--dry-run", "--out", "own.safetensors"
    )
    assert code == 2 and "own.safetensors is a file; --out takes the folder" in err
    Path("filled").mkdir()
    Path("filled/README.md").write_text("mine")
    code, _, err = steer("vectors", "push", "own.safetensors", "me/own", *named, "--dry-run", "--out", "filled")
    assert code == 2 and "holds something else" in err
    assert Path("filled/README.md").read_text() == "mine" and len(list(Path("filled").iterdir())) == 1


def test_a_report_of_quality_beside_the_file_is_on_the_card(
    steer: Steer, hub: FakeHub, own: SteeringVector, tmp_path: Path
) -> None:
    own.save("own.safetensors")
    report = {
        "separability": {"auc": {"estimate": 0.84, "low": 0.52, "high": 1.0}}, "split_half": {"mean": 0.27, "low": 0.1, "high": 0.4},
        "norm_ratio": 0.2, "token_accuracy": 0.6, "remarks": ["unstable: split-half cosine 0.27"],
    }  # fmt: skip
    stored_report = {"vector": own.digest, "held_out": [4, 4], "report": report}
    Path("own.quality.json").write_text(json.dumps(stored_report))
    code, _, err = steer("vectors", "push", "own.safetensors", "me/own", "--force")
    card = hub.files("me/own")["README.md"].decode()
    assert code == 0 and "no evidence is attached" in err, "a report is no effect"
    assert (
        "**How well it is determined** On 4 and 4 texts held out" in card
        and "Unstable: split-half cosine 0.27." in card
    )
    assert json.loads(hub.files("me/own")["evidence.json"])["quality"][1:] == ["Unstable: split-half cosine 0.27."]
    code, _, err = steer("plan", "push", "add own.safetensors 1v on generated", "me/plan", "--force")
    assert code == 0 and "Unstable: split-half cosine 0.27." in hub.files("me/plan")["README.md"].decode()
    assert steer("plan", "push", "add own 2v", "me/plan", "--vector", "own=own.safetensors", "--force")[0] == 0
    assert "Unstable: split-half cosine 0.27." in hub.files("me/plan")["README.md"].decode(), (
        "named on the command line"
    )
    Path("own.quality.json").write_text(json.dumps({**stored_report, "vector": "0" * 16}))
    code, _, err = steer("vectors", "push", "own.safetensors", "me/own", "--force")
    assert code == 0 and "is the report of another vector" in err and "The card says nothing of it." in err
    assert "How well it is determined" not in hub.files("me/own")["README.md"].decode()
    Path("own.quality.json").unlink()
    assert steer("vectors", "push", "own.safetensors", "me/own", "--force")[0] == 0
    assert "How well it is determined" not in hub.files("me/own")["README.md"].decode()


def test_a_card_says_what_counted_as_right_and_how_long_texts_could_be(tmp_path: Path, own: SteeringVector) -> None:
    run = stored(tmp_path, own)
    facts = json.loads((run.folder / "run.json").read_text())
    facts["spec"] |= {
        "task": {"dataset": "/home/me/open.jsonl", "grader": "sentiment", "answer": "wanted"}, "generation": {"max_new_tokens": 24}
    }  # fmt: skip
    (run.folder / "run.json").write_text(json.dumps(facts))
    (tmp_path / "fake" / "SHA256SUMS").unlink(missing_ok=True)
    found = run_evidence(Store(tmp_path), "fake", own)
    card = repository_files(own, "me/v", force=True, evidence=found)["README.md"].decode().replace("\\", "")
    assert "open.jsonl, graded by sentiment (whether a response sounds positive, negative or neutral, by VADER" in card
    assert "/home/me" not in card
    assert "texts of at most 24 tokens" in card


def test_without_rows_of_the_baseline_there_is_no_difference(tmp_path: Path, own: SteeringVector) -> None:
    run = stored(tmp_path, own)
    whole = run_evidence(Store(tmp_path), "fake", own).effects
    assert all(effect.difference is not None for effect in whole)
    rows = [row for row in make_rows() if row["arm"] != "base_bare"]
    bare = Store(tmp_path / "bare").create(run.manifest)
    bare.write(rows)
    bare.set_status("complete")
    found = run_evidence(Store(tmp_path / "bare"), "fake", own)
    assert [effect.n for effect in found.effects] == [effect.n for effect in whole]
    assert all(effect.difference is None for effect in found.effects)
    json.loads(to_bytes(found), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
