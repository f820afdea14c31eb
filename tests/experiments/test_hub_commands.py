"""`steer vectors push`, `pull`, `search` and the formats of `export` and `import`; evidence from a stored run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import steering
from experiments.evaluation.spec_files import load_spec
from experiments.evaluation.summarise import summarise
from experiments.evaluation.summary import COLUMNS
from experiments.store.files import StoreError
from experiments.store.manifest import Arm
from experiments.store.runs import Run, Store
from experiments.studies.elicitation.findings import FOLDER, Findings, Table
from experiments.studies.vector_evidence import plan_of, run_evidence, tokenizer_of
from steering.errors import BadInput
from steering.files import write_file
from steering.plan.source import read_plan
from steering.vector.exchange import repository_files
from steering.vector.vectors import Provenance, SteeringVector
from tests.experiments.command_line import Steer, command
from tests.experiments.fake_run import make_manifest, make_rows
from tests.fake_hub import FakeHub, fake_hub
from tests.tiny import vector

COMMIT = "0123456789abcdef0123456789abcdef01234567"
THINK = Path(steering.__file__).parent / "builtin" / "vectors" / "think-first.safetensors"


@pytest.fixture
def steer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Steer:
    monkeypatch.chdir(tmp_path)
    return command(monkeypatch, capsys)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with fake_hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield running


@pytest.fixture
def own() -> SteeringVector:
    made = vector(layer=2)
    return SteeringVector(
        "reasoning", made.site, made.direction, Provenance("difference", "0" * 16, "Qwen/Qwen2.5-1.5B")
    )


def stored(root: Path, own: SteeringVector, **facts: Any) -> Run:
    """The fake run, whose steered arms use this vector."""
    manifest = make_manifest()
    steered = next(arm for arm in manifest.arms if arm.name == "steered")
    assert steered.plan is not None
    planted = steered.plan["interventions"][0]["vector"]
    arms = [Arm.model_validate_json(arm.model_dump_json().replace(planted, own.digest)) for arm in manifest.arms]
    manifest = manifest.model_copy(
        update={"arms": arms, "facts": {**manifest.facts, "tokenizers": {"base": "2" * 16}, **facts}}
    )
    run = Store(root).create(manifest)
    run.write(make_rows())
    run.set_status("complete")
    return run


def test_evidence_is_what_the_summary_says_of_every_arm_with_the_vector(tmp_path: Path, own: SteeringVector) -> None:
    run = stored(tmp_path, own)
    evidence = run_evidence(Store(tmp_path), "fake", own)
    assert evidence.vector == own.digest and evidence.word_audit == ()
    assert [(e.split, e.arm, e.role) for e in evidence.effects] == [
        (split, arm, role)
        for split in ("standard-test", "hard-test")
        for arm, role in (("Base + reasoning vector", "steered"), ("Base - reasoning vector", "control"))
    ]
    summary = summarise(run.table(COLUMNS), run.manifest)
    for effect in evidence.effects:
        arm = next(a for a in summary.split(effect.split).arms if a.label == effect.arm)
        right = [r["correct"] for r in make_rows() if (r["arm"], r["split"]) == (arm.name, effect.split)]
        assert (effect.n, effect.accuracy) == (len(right), sum(right) / len(right))
        assert arm.accuracy is not None and arm.versus_baseline is not None and effect.difference is not None
        assert (effect.low, effect.high) == (arm.accuracy.interval.low, arm.accuracy.interval.high)
        assert (effect.difference.value, effect.difference.low, effect.difference.high) == (
            arm.versus_baseline.difference, arm.versus_baseline.interval.low, arm.versus_baseline.interval.high,
        )  # fmt: skip
        assert (effect.tokens, effect.token_difference) == (arm.mean_tokens, arm.versus_baseline.token_difference)
        assert (effect.truncated, effect.unscorable, effect.level) == (arm.truncated, arm.unscorable, 0.95)
        other = "Base - reasoning vector" if arm.name == "steered" else "Base + reasoning vector"
        assert effect.wrong_sign is not None and effect.wrong_sign.arm == other
        assert (effect.controls is not None) is (arm.beyond is not None) is (arm.name == "steered")
        if effect.controls is not None and arm.beyond is not None:
            assert (effect.controls.count, effect.controls.as_good) == (1, arm.beyond.as_good)
            assert effect.controls.rank_p == arm.beyond.rank_p and effect.controls.few
            shown = effect.controls.difference
            assert shown is not None and shown.value == arm.beyond.difference
            assert (shown.low, shown.high) == (arm.beyond.interval.low, arm.beyond.interval.high)
    first = evidence.effects[0]
    assert (first.plan, first.model, first.task) == (
        "add 1v at blocks.2.hook_resid_post on last_prompt", "base", "find-the-start",
    )  # fmt: skip
    assert plan_of(run.manifest, own.digest) == next(a for a in run.manifest.arms if a.name == "steered").plan
    assert tokenizer_of(run.manifest, own.digest) == "2" * 16


def test_what_an_audit_of_the_store_says_goes_along(tmp_path: Path, own: SteeringVector) -> None:
    stored(tmp_path, own)
    said = ("reasoning: a bias on its words does as much.", "other: it is more than a word.")
    tables = tuple(
        Table(title=f"{name}, every arm", heads=("arm",), lines=(("a",),), notes=(f"Vector {digest}.",))
        for name, digest in (("reasoning", own.digest), ("other", "1" * 16))
    )
    audit = Findings(
        card="audit", systems=(), papers=(), pair=("builtin:base", None), task="find-start", preset="quick", options={}, points=(),
        tables=tables, said=said, runs=(),
    )  # fmt: skip
    write_file(tmp_path / FOLDER / "audit.json", audit.model_dump_json().encode())
    assert run_evidence(Store(tmp_path), "fake", own).word_audit == (f"{said[0]} (builtin:base on find-start)",)


def test_a_run_without_the_vector_is_refused(tmp_path: Path, own: SteeringVector) -> None:
    stored(tmp_path, own)
    with pytest.raises(
        BadInput, match=f"No arm of run fake uses vector {vector().digest} .*its steered arms use .*{own.digest}"
    ):
        run_evidence(Store(tmp_path), "fake", vector())
    empty = make_manifest("empty").model_copy(update={"arms": Store(tmp_path).open("fake").manifest.arms})
    Store(tmp_path).create(empty)
    with pytest.raises(BadInput, match="Run empty has no graded rows of an arm with vector"):
        run_evidence(Store(tmp_path), "empty", own)
    assert plan_of(empty, vector().digest) is None and tokenizer_of(empty, own.digest) is None


def test_push_pull_and_search(steer: Steer, hub: FakeHub, own: SteeringVector, tmp_path: Path) -> None:
    own.save(tmp_path / "v.safetensors")
    stored(tmp_path / "runs", own)
    code, out, err = steer(
        "vectors", "push", "v.safetensors", "me/v", "--base-commit", COMMIT, "--licence", "mit", "--arxiv", "2506.18167", "--run", "fake",
        "--useful", "0.5:1.5",
    )  # fmt: skip
    pushed = json.loads(out)
    assert code == 0 and "no evidence" not in err and pushed["pushed"] and pushed["url"] == f"{hub.url}/me/v"
    config = json.loads(hub.files("me/v")["config.json"])
    assert config["base_model"] == {
        "id": "Qwen/Qwen2.5-1.5B", "repository": "", "commit": COMMIT, "fingerprint": "0" * 16, "tokenizer": "2" * 16,
    }  # fmt: skip
    assert (config["dose"]["useful"], config["licence"], config["arxiv"]) == ([0.5, 1.5], "mit", ["2506.18167"])
    assert "| fake | standard-test | Base + reasoning vector" in hub.files("me/v")["README.md"].decode()

    code, out, err = steer("vectors", "pull", "me/v", "--out", "pulled.safetensors")
    assert code == 0 and out.split("\t")[0] == "pulled.safetensors" and out.strip().endswith(own.digest)
    assert (
        f"From me/v at commit {pushed['commit']}; base model Qwen/Qwen2.5-1.5B, commit {COMMIT}; 2 measured effects and 2 of "
        "controls are attached" in err
    )
    assert (tmp_path / "pulled.safetensors").read_bytes() == (tmp_path / "v.safetensors").read_bytes()
    code, out, _ = steer("vectors", "pull", f"me/v@{pushed['commit']}", "--json")
    said = json.loads(out)
    assert (said["commit"], said["config"]["file"]["digest"]) == (pushed["commit"], own.digest)
    assert len(said["evidence"]["effects"]) == 4
    plan = read_plan(str(Path(said["file"]).with_name("plan.yaml")))
    assert str(plan.interventions[0].span) == "last_prompt", "the plan that the run measured"

    assert steer("vectors", "search")[1] == "me/v\tQwen/Qwen2.5-1.5B\t7 downloads\t2026-02-03\n"
    (found,) = json.loads(steer("vectors", "search", "--base", "Qwen/Qwen2.5-1.5B", "--json")[1])
    assert (found["repository"], found["base_models"]) == ("me/v", ["Qwen/Qwen2.5-1.5B"])
    code, out, err = steer("vectors", "search", "--base", "Qwen/Qwen3-4B")
    assert (code, out) == (0, "") and "The hub lists no steering vectors of Qwen/Qwen3-4B." in err


def test_names_of_the_hub_go_where_files_go(steer: Steer, hub: FakeHub, own: SteeringVector, tmp_path: Path) -> None:
    own.save(tmp_path / "v.safetensors")
    assert steer("vectors", "push", "v.safetensors", "me/v", "--force")[0] == 0
    code, out, _ = steer("vectors", "show", "hub:me/v", "hub:me/v@main", "--json")
    assert code == 0 and [one["digest"] for one in json.loads(out)] == [own.digest] * 2
    code, out, _ = steer("plan", "show", "add think 1v on generated", "--vector", "think=hub:me/v")
    assert code == 0 and own.digest in out
    code, out, _ = steer("plan", "show", "add hub:me/v 1v on generated")
    assert code == 0 and own.digest in out
    arm = {"model": "builtin:base", "form": "bare"}
    step = {"operation": "add", "vector": "hub:me/v@main", "span": "generated", "dose": "1v"}
    arms = [
        {"name": "base", "label": "base", "role": "baseline", **arm},
        {"name": "line", "label": "line", "role": "steered", **arm, "plan": "add hub:me/v 1v on generated"},
        {"name": "steps", "label": "steps", "role": "steered", **arm, "plan": {"interventions": [step]}},
    ]
    (tmp_path / "spec.yaml").write_text(json.dumps({"name": "spec", "splits": {"standard-test": 2}, "arms": arms}))
    spec, vectors = load_spec(tmp_path / "spec.yaml", [], None)
    assert list(vectors) == [own.digest]
    assert [a.plan["interventions"][0]["vector"] for a in spec.arms if a.plan] == [own.digest] * 2
    assert steer("vectors", "export", "hub:me/v", "--out", "v.gguf", "--model-hint", "qwen2")[0] == 0
    code, _, err = steer("vectors", "export", "hub:me/v", "--out", "w.gguf", "--model-hint", "qwen22")
    assert code == 0 and "'qwen22' is no architecture" in err and "Did you mean qwen2?" in err
    code, _, err = steer("vectors", "export", "hub:me/v", "--out", "w.gguf", "--model-hint", "qwen2")
    assert code == 2 and "w.gguf is there already; give another name" in err
    lives = Provenance("difference", "0" * 16, "smollm2")
    SteeringVector("s", own.site, own.direction, lives).save(tmp_path / "s.safetensors")
    code, _, err = steer("vectors", "export", "s.safetensors", "--out", "s.gguf", "--model-hint", "qwen2")
    assert code == 0 and "the vectors are of smollm2, whose architecture is llama, and the file says qwen2" in err
    code, _, err = steer("vectors", "export", "s.safetensors", "--out", "t.gguf", "--model-hint", "llama")
    assert code == 0 and not err
    assert steer("vectors", "push", "hub:me/v", "me/again", "--force")[0] == 0 and "me/again" in hub.repositories
    code, _, err = steer("vectors", "show", "hub:me/none")
    assert code == 2 and "There is no model repository me/none" in err


def test_a_dry_run_writes_a_folder_and_asks_nobody(
    steer: Steer, hub: FakeHub, own: SteeringVector, tmp_path: Path
) -> None:
    own.save(tmp_path / "v.safetensors")
    code, out, err = steer("vectors", "push", "v.safetensors", "me/v", "--force", "--dry-run", "--out", "folder")
    said = json.loads(out)
    assert code == 0 and said["pushed"] is False and not hub.asked
    assert sorted(said["files"]) == sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "folder").iterdir())
    assert "Warning: no evidence is attached, and the card says so." in err
    assert SteeringVector.load(tmp_path / "folder" / "vector.safetensors").digest == own.digest
    assert list(read_plan(str(tmp_path / "folder" / "plan.yaml")).vectors) == [own.digest]
    for given in (("--dry-run",), ("--out", "folder")):
        code, _, err = steer("vectors", "push", "v.safetensors", "me/v", "--force", *given)
        assert code == 2 and "give --dry-run and --out together, or neither" in err
    assert not hub.asked


def test_what_a_push_cannot_be_given_is_refused(
    steer: Steer, hub: FakeHub, own: SteeringVector, tmp_path: Path
) -> None:
    own.save(tmp_path / "v.safetensors")
    stored(tmp_path / "runs", own)
    (tmp_path / "e.json").write_text(json.dumps({"vector": "1" * 16}))
    for given, message in (
        ((), "The commit of the base model Qwen/Qwen2.5-1.5B is not known"),
        (("--force", "--evidence", "e.json"), f"e.json is evidence of {'1' * 16}, not of {own.digest}"),
        (("--force", "--evidence", "none.json"), "No evidence at none.json: give a JSON file, or --run"),
        (("--force", "--evidence", "e.json", "--run", "fake"), "Give --evidence or --run, not both."),
        (("--force", "--useful", "much"), "--useful 'much' is not LOW:HIGH, as in 0.5:1.5."),
        (("--force", "--run", "fakes"), "fake"),
    ):
        code, out, err = steer("vectors", "push", "v.safetensors", "me/v", *given)
        assert (code, out) == (2, "") and message in err, err
    assert not hub.asked
    (tmp_path / "e.json").write_text(json.dumps({"side_effects": ["Texts are longer."]}))
    assert steer("vectors", "push", "v.safetensors", "me/v", "--force", "--evidence", "e.json")[0] == 0
    assert "Texts are longer." in hub.files("me/v")["README.md"].decode()


@pytest.mark.parametrize(
    ("kind", "file", "writing", "reading", "digest"),
    [
        ("easysteer", "v.json", ("--model-hint", "qwen2", "--scale", "2", "--on", "all"), (), True),
        ("neuronpedia", "v.json", ("--model-id", "gpt2-small", "--strength", "10"), ("--model-id", "gpt2"), False),
        ("tensor", "v.pt", ("--n-layers", "4"), ("--rows", "layers"), True),
    ],
)
def test_formats_go_out_and_come_in(
    steer: Steer, own: SteeringVector, tmp_path: Path, kind: str, file: str, writing: tuple[str, ...], reading: tuple[str, ...],
    digest: bool,
) -> None:  # fmt: skip
    own.save(tmp_path / "own.safetensors")
    code, out, err = steer("vectors", "export", "own.safetensors", "--out", file, "--format", kind, *writing)
    assert code == 0 and json.loads(out) == {"file": file, "vectors": 1}, err
    code, out, err = steer("vectors", "import", file, "--out", "in", "--format", kind, *reading)
    assert code == 0, err
    (found,) = json.loads(out)
    back = SteeringVector.load(found["file"])
    assert torch.equal(back.direction, own.direction) and (back.digest == own.digest) is digest
    assert back.site.name == ("blocks.2.hook_resid_post" if digest else "blocks.3.hook_resid_pre")


def test_formats_that_are_not_there_are_refused(steer: Steer, own: SteeringVector, tmp_path: Path) -> None:
    own.save(tmp_path / "own.safetensors")
    code, _, err = steer("vectors", "export", "own.safetensors", "--out", "v", "--format", "onnx")
    code, _, told = steer("vectors", "export", "own.safetensors", "--out", "v", "--model-hint", "x", "--scale", "5")
    assert (
        code == 2
        and "--scale belongs to --format easysteer, and does nothing in gguf" in told
        and not Path("v").exists()
    )
    code, _, err = steer("vectors", "export", "own.safetensors", "--out", "v", "--format", "onnx")
    assert code == 2 and "Unknown format 'onnx'" in err and "gguf, easysteer, neuronpedia, saklas, tensor" in err
    code, _, err = steer("vectors", "export", *["own.safetensors"] * 2, "--out", "v", "--format", "neuronpedia")
    assert code == 2 and "Neuronpedia takes one vector at a time, not 2" in err
    torch.save(torch.ones(2, 4), tmp_path / "v.pt")
    code, _, err = steer("vectors", "import", "v.pt", "--out", "in", "--format", "tensor")
    assert code == 2 and "--format tensor needs --rows" in err


def test_a_pull_overwrites_nothing(steer: Steer, hub: FakeHub, own: SteeringVector, tmp_path: Path) -> None:
    own.save("own.safetensors")
    assert steer("vectors", "push", "own.safetensors", "me/own", "--force")[0] == 0
    (tmp_path / "notes.txt").write_text("mine")
    code, _, err = steer("vectors", "pull", "me/own", "--out", "notes.txt")
    assert code == 2 and "is there already and holds something else" in err
    assert (tmp_path / "notes.txt").read_text() == "mine"
    (tmp_path / "place").mkdir()
    assert "is a folder" in steer("vectors", "pull", "me/own", "--out", "place")[2]
    for _ in range(2):  # the same again is no other file
        assert steer("vectors", "pull", "me/own", "--out", "pulled.safetensors")[0] == 0
    assert SteeringVector.load("pulled.safetensors").digest == own.digest


def test_a_run_that_chose_among_its_cells_says_so_and_a_damaged_one_is_no_evidence(
    tmp_path: Path, own: SteeringVector
) -> None:
    run = stored(tmp_path, own)
    assert run_evidence(Store(tmp_path), "fake", own).remarks == ()
    cells = [{"name": "steered", "settings": {"layer": 2}}]
    run.keep("sweep.json", json.dumps({"sweep": {"name": "s"}, "cells": cells}).encode())
    (remark,) = run_evidence(Store(tmp_path), "fake", own).remarks
    assert "development run of a sweep" in remark
    found = repository_files(own, "me/own", force=True, evidence=run_evidence(Store(tmp_path), "fake", own))[
        "README.md"
    ].decode()
    assert "development run of a sweep" in found and "The questions: " in found
    facts = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps(facts | {"name": "s-test"}))
    (run.folder / "SHA256SUMS").unlink(missing_ok=True)
    (remark,) = run_evidence(Store(tmp_path), "fake", own).remarks
    assert remark.startswith(
        "The sweep's verdict on its cell: Base + reasoning vector is described, not tested: its card does not say"
    )
    shard = next((run.folder / "rows").glob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(StoreError, match="does not verify, so it is no evidence"):
        run_evidence(Store(tmp_path), "fake", own)


def test_a_run_says_which_of_its_vectors_are_of_a_hub(steer: Steer, hub: FakeHub, tmp_path: Path) -> None:
    assert steer("vectors", "push", str(THINK), "me/think", "--force")[0] == 0
    commit = hub.repositories["me/think"].branches["main"]
    arm = {"model": "builtin:base", "form": "bare"}
    arms = [
        {"name": "base", "label": "base", "role": "baseline", **arm},
        {"name": "line", "label": "line", "role": "steered", **arm, "plan": "add hub:me/think 1v on generated"},
    ]
    facts = {"name": "named", "splits": {"standard-test": 2}, "generation": {"max_new_tokens": 8}, "arms": arms}
    (tmp_path / "spec.yaml").write_text(json.dumps(facts))
    code, out, err = steer("eval", "spec.yaml", "--runs", "runs")
    assert code == 0, err
    (run,) = [line.run for line in Store(tmp_path / "runs").catalogue()]
    said = f"Vector {SteeringVector.load(THINK).digest} is hub:me/think@{commit}."
    assert said in steer("runs", "show", run, "--runs", "runs")[1]
    spec = yaml.safe_load(steer("runs", "spec", run, "--runs", "runs")[1])
    assert spec["arms"][1]["plan"]["interventions"][0]["vector"] == f"hub:me/think@{commit}"
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(spec))
    code, _, err = steer("eval", "again.yaml", "--runs", "elsewhere")
    assert code == 0, err
    hub.repositories.clear()
    assert said in steer("runs", "show", run, "--runs", "runs")[1], "nothing is asked of the hub"
