"""Runs through a hub on this machine: published whole, taken in once every file fits; and the commands of plans, probes and runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from experiments.report.writing import markdown_tables
from experiments.store.files import StoreError
from experiments.store.publication import publish_run, pull_run
from experiments.store.runs import Run, Store
from experiments.store.upkeep import verify
from experiments.studies.vector_evidence import plan_evidence
from probes.probe import Probe, two_rows
from steering.errors import BadInput
from steering.model.sites import Site
from steering.plan.expression import parse_plan
from tests.experiments.command_line import Steer
from tests.experiments.fake_run import make_manifest, make_rows
from tests.experiments.test_hub_commands import COMMIT, hub, own, steer, stored
from tests.experiments.test_seal import whole_run
from tests.fake_hub import DATASETS, FakeHub, front_matter

__all__ = ["hub", "own", "steer"]
NAME = "me/run"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return whole_run(tmp_path / "here")


def test_a_run_comes_back_byte_for_byte(hub: FakeHub, run: Run, tmp_path: Path) -> None:
    done = publish_run(run, NAME, markdown_tables(run), licence="mit")
    assert done.url == f"{hub.url}/datasets/{NAME}" and set(hub.repositories) == {f"{DATASETS}{NAME}"}
    there = Store(tmp_path / "there")
    back = pull_run(NAME, there)
    before = {p.relative_to(run.folder): p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}
    after = {p.relative_to(back.folder): p.read_bytes() for p in back.folder.rglob("*") if p.is_file()}
    assert before == after and {one.status for one in verify(back)} == {"ok"}
    assert not list(there.root.glob(".import-*"))
    with pytest.raises(StoreError, match="Run 'fake' exists in .*there"):
        pull_run(f"{NAME}@{done.commit}", there)


def test_the_card_shows_the_rows_and_what_they_show(hub: FakeHub, run: Run) -> None:
    publish_run(run, NAME, markdown_tables(run))
    card = hub.files(DATASETS + NAME)["README.md"].decode()
    facts = front_matter(card.encode())
    assert facts["configs"][0]["data_files"] == [{"split": "rows", "path": "fake/rows/*.parquet"}]
    assert "license" not in facts and "Licence: none is stated" in card and "steering-run" in facts["tags"]
    assert "steer runs pull me/run" in card and "| steered |" in card.lower() and "95 %" in card
    publish_run(run, NAME, "", licence="mit")
    assert front_matter(hub.files(DATASETS + NAME)["README.md"])["license"] == "mit"


def test_rows_go_through_large_file_storage(
    hub: FakeHub, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    hub.large = (".parquet",)
    publish_run(run, NAME, "")
    assert hub.stored and ("POST", f"/datasets/{NAME}.git/info/lfs/objects/batch") in hub.asked
    assert len(pull_run(NAME, Store(tmp_path / "there")).table()) == len(run.table())


def test_what_is_not_whole_is_neither_published_nor_taken_in(hub: FakeHub, run: Run, tmp_path: Path) -> None:
    there = Store(tmp_path / "there")
    going = Store(tmp_path / "going").create(make_manifest(n_items=4))
    going.write(make_rows(4))
    with pytest.raises(StoreError, match="Run fake is running; let it end first"):
        publish_run(going, NAME, "")
    publish_run(run, NAME, "")
    whole = hub.files(DATASETS + NAME)
    shard = next(name for name in whole if name.endswith(".parquet"))
    for name, data, message in (
        (shard, whole[shard][:-1], "holds a run that is not whole, so nothing was written"),
        ("fake/summary.json", b"{}", "holds a run that is not whole"),
        ("fake/extra.txt", b"1", "holds a run that is not whole"),
        ("other/run.json", b"{}", "holds 2 runs"),
    ):
        hub.put(DATASETS + NAME, {name: data})
        with pytest.raises(StoreError, match=message):
            pull_run(NAME, there)
        hub.put(DATASETS + NAME, whole)
        held = hub.repositories[DATASETS + NAME]
        held.commit({}, gone={name} - set(whole))
    assert not list(there.root.iterdir()) if there.root.exists() else True
    shutil.copy(run.folder / "run.json", run.folder / "rows" / "added.parquet")
    with pytest.raises(StoreError, match="does not verify, so it is not published"):
        publish_run(run, "me/damaged", "")
    assert set(hub.repositories) == {DATASETS + NAME}


def test_what_is_no_run_is_refused(hub: FakeHub, run: Run, tmp_path: Path) -> None:
    there = Store(tmp_path / "there")
    with pytest.raises(
        BadInput, match="There is no dataset repository me/gone at .* or it is private: check owner and name or log in"
    ):
        pull_run("me/gone", there)
    hub.put(DATASETS + "me/else", {"data/train.parquet": b"1"})
    with pytest.raises(BadInput, match="me/else at .* holds no run"):
        pull_run("me/else", there)
    with pytest.raises(BadInput, match=r"holds other files than a run's \(data/train.parquet\)"):
        publish_run(run, "me/else", "")
    hub.put(DATASETS + "me/bad", {"fake/run.json": b"{}", "fake/a b.json": b"1"})
    with pytest.raises(StoreError, match="holds 'fake/a b.json', which is no file of a run"):
        pull_run("me/bad", there)


def test_commands_publish_and_pull(hub: FakeHub, run: Run, steer: Steer, tmp_path: Path) -> None:
    code, out, _ = steer("runs", "publish", "fake", NAME, "--runs", str(tmp_path / "here"), "--licence", "mit")
    assert code == 0 and json.loads(out)["repository"] == NAME
    card = hub.files(DATASETS + NAME)["README.md"].decode()
    assert "### " in card and "(" in card.split("## What it shows")[1], "tables with intervals"
    code, out, _ = steer("runs", "pull", NAME, "--runs", str(tmp_path / "there"), "--json")
    assert code == 0 and json.loads(out) == {"run": "fake"}
    code, _, said = steer("runs", "pull", NAME, "--runs", str(tmp_path / "there"))
    assert code != 0 and "exists" in said


def test_commands_push_and_pull_plans_with_a_runs_evidence(
    hub: FakeHub, steer: Steer, own: object, tmp_path: Path
) -> None:
    run = stored(tmp_path / "runs", own)  # type: ignore[arg-type]
    file = own.save(tmp_path / "own.safetensors")  # type: ignore[attr-defined]
    plan = next(arm.plan for arm in run.manifest.arms if arm.name == "steered")
    assert plan is not None
    entry = {key: value for key, value in plan["interventions"][0].items() if key != "vector_name"} | {
        "vector": file.name
    }
    Path("plan.json").write_text(json.dumps({"interventions": [entry]}))
    code, out, said = steer("plan", "push", "plan.json", "me/plan", "--run", "fake", "--base-commit", COMMIT)
    assert code == 0 and "Warning" not in said, said
    evidence = json.loads(hub.files("me/plan")["evidence.json"])
    assert [one["arm"] for one in evidence["effects"]] == ["Base + reasoning vector"] * 2
    assert json.loads(hub.files("me/plan")["config.json"])["base_model"]["tokenizer"] == "2" * 16
    code, _, said = steer(
        "plan", "push", f"add {file.name} 0.125v on all", "me/other", "--run", "fake", "--base-commit", COMMIT
    )
    assert code != 0 and "No arm of run fake has plan" in said
    with pytest.raises(BadInput, match="its steered arms are steered"):
        plan_evidence(Store(tmp_path / "runs"), "fake", parse_plan("add own 0.125v on all", {"own": own}))  # type: ignore[dict-item]
    dry = ("--base-commit", COMMIT, "--dry-run", "--out", "dry")
    asked = len(hub.asked)
    code, out, said = steer("plan", "push", "plan.json", "me/plan", "--run", "fake", *dry)
    assert code == 0 and json.loads(out)["pushed"] is False and len(hub.asked) == asked
    there = {str(path.relative_to("dry")): path.read_bytes() for path in Path("dry").rglob("*") if path.is_file()}
    held = hub.files("me/plan")
    assert there == {name: data for name, data in held.items() if name != ".gitattributes"}, "what a push writes"
    assert "give --dry-run and --out together" in steer("plan", "push", "plan.json", "me/plan", *dry[:-2])[2]
    code, out, said = steer("plan", "push", f"add {file.name} 1v on all", "me/plan", "--base-commit", COMMIT)
    assert code == 0 and "Warning: me/plan held plan" in said and json.loads(out)["replaced"]["digest"] in said
    assert steer("plan", "push", "plan.json", "me/plan", "--run", "fake", "--base-commit", COMMIT)[0] == 0
    code, out, said = steer("plan", "push", "plan.json", "me/none", "--evidence", "none.json")
    assert code == 2 and "no evidence" not in said, "nothing is said of a card that is not written"
    code, out, said = steer("plan", "pull", "me/plan", "--out", "there")
    assert code == 0 and "2 measured effects are attached" in said and Path("there/plan.yaml").is_file()
    code, out, _ = steer("plan", "show", "there/plan.yaml")
    named = steer("plan", "show", "hub:me/plan")[1]
    assert code == 0 and out == named
    code, _, said = steer("plan", "pull", "me/plan", "--out", "there")
    assert code != 0 and "there holds files; give a new folder" in said
    assert (
        steer("plan", "push", f"add {file.name} 1v", "me/bare", "--base-commit", COMMIT)[2].count(
            "no evidence is attached"
        )
        == 1
    )


def test_commands_push_and_pull_probes(hub: FakeHub, steer: Steer) -> None:
    weight, bias = two_rows(torch.linspace(-1, 1, 8), 0.25)
    Probe("logistic", Site(3), ("no", "yes"), (weight,), (bias,)).save("p.safetensors")
    code, _, said = steer("probe", "push", "p.safetensors", "me/probe")
    assert code != 0 and "does not say which model" in said
    code, _, said = steer("probe", "push", "p.safetensors", "me/probe", "--force")
    assert code == 0 and "holds no measurement" in said
    code, out, said = steer("probe", "pull", "me/probe", "--out", "q.safetensors")
    assert code == 0 and Path("q.safetensors").read_bytes() == Path("p.safetensors").read_bytes()
    assert "how well it reads is not shown" in said
    assert steer("probe", "show", "hub:me/probe")[1] == steer("probe", "show", "p.safetensors")[1]
