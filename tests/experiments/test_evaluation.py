"""Evaluations: resumed runs hold the same bytes, rows are graded and receipted, mistakes are refused before any model runs."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from experiments.evaluation.evaluate import run_evaluation
from experiments.evaluation.loading import Loading
from experiments.evaluation.sentences import render_table, sentence
from experiments.evaluation.spec import EvalSpec, Generating
from experiments.evaluation.stored_vectors import run_vectors
from experiments.evaluation.summary import from_json
from experiments.report.arm_frame import arms_frame
from experiments.report.evidence import gather
from experiments.report.tables import arm_tables
from experiments.store.runs import Arm, Store
from steering.errors import BadInput
from steering.model.models import load_model
from steering.model.sites import Site
from steering.model.sources import BUILTINS
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import Provenance, SteeringVector, random_like
from tests.experiments.command_line import command
from tests.steer_process import KilledAfterWriting, SteerProcess


@pytest.fixture(scope="module")
def noise() -> SteeringVector:
    import torch

    return random_like(
        SteeringVector(
            "ones", Site(1), torch.full((load_model("builtin:base").d_model,), 0.3), Provenance("test", "none")
        ),
        0,
    )


def small_spec(noise: SteeringVector, n: int = 10, **generation: object) -> EvalSpec:
    plan = Plan((Intervention("add", noise, Span("all"), Dose(1.0)),))
    arms = (
        Arm(name="base", label="base", role="baseline", model="builtin:base", form="bare"),
        Arm(name="think", label="think", role="prompt", model="builtin:base", form="think"),
        Arm(name="steered", label="steered", role="steered", model="builtin:base", form="bare", plan=plan.to_dict()),
    )
    settings = Generating(**{"max_new_tokens": 24, **generation})  # type: ignore[arg-type]
    return EvalSpec(name="small", splits={"standard-test": n}, arms=arms, generation=settings)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "rows").iterdir())} | {
        "summary": (folder / "summary.json").read_bytes()
    }


def test_a_run_says_which_arms_use_vectors_of_another_model(tmp_path: Path, noise: SteeringVector) -> None:
    made = Provenance("difference of means", "0123456789abcdef", "org/other")
    foreign = SteeringVector("foreign", noise.site, noise.direction, made)
    spec, store = small_spec(noise, 2), Store(tmp_path)
    with pytest.raises(BadInput, match="Arm 'steered': foreign comes from another model: org/other"):
        run_evaluation(spec, store, {noise.digest: foreign}, strict=True)
    assert not any(tmp_path.glob("*/rows/*"))
    run = run_evaluation(spec, store, {noise.digest: foreign})
    assert run.manifest.facts["origins"] == {
        "steered": ["foreign comes from another model: org/other, not builtin:base."]
    }
    tables = arm_tables(gather(run), arms_frame(gather(run)), "standard-test")
    (receipts,) = [table for table in tables if table.title.startswith("Receipts")]
    assert "steered: foreign comes from another model: org/other, not builtin:base." in receipts.notes


def test_rows_whose_numbers_break_are_never_graded_and_are_counted(
    tmp_path: Path, noise: SteeringVector, caplog: pytest.LogCaptureFixture
) -> None:
    plan = Plan((Intervention("add", noise, Span("all"), Dose(1e7, "raw")),))
    spec = small_spec(noise, 4)
    steered = spec.arms[2].model_copy(update={"plan": plan.to_dict()})
    spec = spec.model_copy(update={"arms": (spec.arms[0], steered), "loading": Loading(dtype="float16")})
    run = run_evaluation(spec, Store(tmp_path), {noise.digest: noise})
    broken = [row for row in run.table().to_pylist() if row["arm"] == "steered"]
    assert all(row["finish"] == "nonfinite" and not row["scorable"] and not row["correct"] for row in broken)
    assert all(row["answer"] is None and row["token_ids"] == [] for row in broken)
    said = f"item {broken[0]['item']}, seed 0 is not graded: the activation at blocks.1.hook_resid_post is not finite at position 0."
    assert any(said in line for line in caplog.messages)
    summary = from_json(run.summary())
    base, arm = (summary.split("standard-test").arm(name) for name in ("base", "steered"))
    assert (base.nonfinite, arm.nonfinite, arm.unscorable) == (0, 4, 4)
    said = "4 of 4 rows ended because the model's numbers became NaN or infinite"
    assert said in sentence(arm)
    assert said in str(render_table(summary, "standard-test").caption)


def test_rows_carry_ids_text_grades_and_receipts(tmp_path: Path, noise: SteeringVector) -> None:
    run = run_evaluation(small_spec(noise), Store(tmp_path), {noise.digest: noise})
    rows = run.table().to_pylist()
    assert len(rows) == 30 and run.manifest.status == "complete"
    for row in rows:
        assert len(row["tokens"]) == len(row["token_ids"]) == len(row["logprob"]) == len(row["entropy"])
        assert len(row["edit_ratio"]) == len(row["prompt_ids"]) + len(row["token_ids"])
        assert len(row["top_ids"]) == len(row["top_tokens"]) == len(row["top_logprob"]) == 5 * len(row["token_ids"])
        assert row["prompt_ids"].count(1) == 1, "one BOS"
        assert " ".join(t for t in row["tokens"] if t != "<eos>") == row["text"]
        assert (row["edits_fired"] > 0) == (row["arm"] == "steered") and row["edits_fired"] == row["edits_planned"]
        assert row["truncated"] == (row["finish"] == "length") == (row["token_ids"][-1] != 2)
    assert {v.digest for v in run_vectors(run).values()} == {noise.digest}


def test_a_run_interrupted_anywhere_ends_with_the_same_bytes(
    tmp_path: Path, noise: SteeringVector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.evaluation.rows.CHUNK_ROWS", 9)
    spec, vectors = small_spec(noise), {noise.digest: noise}
    whole = run_evaluation(spec, Store(tmp_path / "whole"), vectors)

    def interrupt(done: int, total: int) -> None:
        if done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_evaluation(spec, Store(tmp_path / "parts"), vectors, on_rows=interrupt)
    partial = Store(tmp_path / "parts").open(whole.manifest.run_id)
    assert partial.manifest.status == "interrupted" and len(partial.keys()) == 18
    generated: list[int] = []
    import experiments.evaluation.records as rows_module

    original = rows_module.generate
    monkeypatch.setattr(
        rows_module,
        "generate",
        lambda model, rows, *a, **k: generated.append(len(rows)) or original(model, rows, *a, **k),
    )
    resumed = run_evaluation(spec, Store(tmp_path / "parts"), vectors)
    assert sum(generated) == 12, "only rows not yet stored are redone"
    assert contents(resumed.folder) == contents(whole.folder)
    run_evaluation(spec, Store(tmp_path / "parts"), vectors)
    assert sum(generated) == 12, "a finished run is reused"


def test_batch_invariant_rows_have_the_same_bits_however_a_run_is_cut(tmp_path: Path, noise: SteeringVector) -> None:
    spec = small_spec(noise, 5, temperature=1.0).model_copy(update={"batch_invariant": True})
    cuts = [spec, spec.model_copy(update={"rows_per_chunk": 2}), spec.model_copy(update={"rows_per_batch": 3})]
    runs = [run_evaluation(cut, Store(tmp_path / str(n)), {noise.digest: noise}) for n, cut in enumerate(cuts)]
    assert runs[0].table().equals(runs[1].table()) and runs[0].table().equals(runs[2].table())
    assert runs[0].manifest.spec["batch_invariant"] is True
    fast = run_evaluation(small_spec(noise, 5, temperature=1.0), Store(tmp_path / "fast"), {noise.digest: noise})
    assert "batch_invariant" not in fast.manifest.spec
    assert not fast.keys() & runs[0].keys()
    assert fast.table(["token_ids"]).equals(runs[0].table(["token_ids"]))


def test_anything_that_changes_the_rows_changes_the_run(tmp_path: Path, noise: SteeringVector) -> None:
    vectors = {noise.digest: noise}
    first = run_evaluation(small_spec(noise, n=2), Store(tmp_path), vectors)
    other_settings = run_evaluation(small_spec(noise, n=2, max_new_tokens=23), Store(tmp_path), vectors)
    assert first.manifest.run_id != other_settings.manifest.run_id
    assert not first.keys() & other_settings.keys()


@pytest.mark.slow
def test_sigkill_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    sizes = [f"--set={name}" for name in ("generation.max_new_tokens=100", "rows_per_chunk=8")]
    words = ["eval", "--n", "8", "--json", *sizes, "--runs"]
    whole = SteerProcess(*words, tmp_path / "whole").done()
    assert whole.returncode == 0, whole.stderr
    killed = SteerProcess(*words, tmp_path / "parts", first=KilledAfterWriting(0.05)).done()
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    stored = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "parts").glob("*/rows/*.parquet")}
    again = SteerProcess(*words, tmp_path / "parts").done()
    assert again.returncode == 0, again.stderr
    assert again.stdout == whole.stdout
    (a,), (b,) = (tmp_path / "whole").iterdir(), (tmp_path / "parts").iterdir()
    assert contents(a) == contents(b)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "parts").glob("*/rows/*.parquet")}
    assert 0 < len(stored) < len(after) and all(after[name] == when for name, when in stored.items()), (
        "stored rows were not redone"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "find-strat"}, "Did you mean 'find-start'"),
        ({"splits": {"standard-tset": 3}}, "Did you mean 'standard-test'"),
        ({"splits": {"standard-test": 0}}, "at least one item"),
        ({"generation": {"max_new_tokens": 5000}}, "exceed the context"),
    ],
)
def test_bad_specs_are_refused_before_anything_is_stored(
    tmp_path: Path, noise: SteeringVector, change: dict[str, object], message: str
) -> None:
    spec = EvalSpec.model_validate({**small_spec(noise).model_dump(), **change})
    with pytest.raises(BadInput, match=message):
        run_evaluation(spec, Store(tmp_path / "runs"), {noise.digest: noise})
    assert not list(tmp_path.glob("runs/*"))


def test_the_builtin_weights_are_small() -> None:
    assert sum(f.stat().st_size for folder in BUILTINS.values() for f in folder.glob("*.safetensors")) < 16_000_000


def write_spec(folder: Path, **change: object) -> Path:
    arms = [{"name": "base", "label": "base", "role": "baseline", "model": "builtin:base", "form": "bare"}]
    path = folder / "spec.json"
    path.write_text(json.dumps({"name": "cli", "splits": {"standard-test": 2}, "arms": arms, **change}))
    return path


def arm(**change: object) -> dict[str, object]:
    return {"name": "base", "label": "b", "role": "baseline", "model": "builtin:base", "form": "bare", **change}


def plan_with(**change: object) -> dict[str, object]:
    step = {"operation": "add", "vector": "v.safetensors", "span": "all", "dose": {"amount": 1.0}, **change}
    return {"interventions": [step]}


@pytest.mark.slow
def test_the_command_line_refuses_bad_input_with_one_message_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    good = SteeringVector("v", Site(1), torch.ones(load_model("builtin:base").d_model), Provenance("test", "none"))
    good.save(tmp_path / "v.safetensors")
    SteeringVector("w", Site(1), torch.ones(7), Provenance("test", "none")).save(tmp_path / "narrow.safetensors")
    torch.save({"direction": torch.ones(4)}, tmp_path / "p.pt")
    (tmp_path / "half.safetensors").write_bytes((tmp_path / "v.safetensors").read_bytes()[:-20])
    (tmp_path / "runs" / "half-written").mkdir(parents=True)
    (tmp_path / "runs" / "half-written" / "run.json").write_text('{"schema_version": 1, "run_')
    cases = {
        "model": ({"arms": [arm(model="builtin:basse")]}, "Did you mean 'builtin:base'"),
        "split": ({"splits": {"hard-tst": 2}}, "Did you mean 'hard-test'"),
        "form": ({"arms": [arm(form="bear")]}, "Did you mean 'bare'"),
        "site": ({"arms": [arm(plan=plan_with(site="blocks.1.resid"))]}, "is not a site"),
        "layer": ({"arms": [arm(plan=plan_with(site="blocks.9.hook_resid_post"))]}, "4 layers, 0 to 3"),
        "span": ({"arms": [arm(plan=plan_with(span="generatd"))]}, "Did you mean 'generated'"),
        "width": ({"arms": [arm(plan=plan_with(vector="narrow.safetensors"))]}, "has width 7"),
        "pickle": ({"arms": [arm(plan=plan_with(vector="p.pt"))]}, "pickled"),
        "corrupt": ({"arms": [arm(plan=plan_with(vector="half.safetensors"))]}, "corrupt or cut short"),
        "key": ({"arm": []}, "arm"),
    }
    steer, calls = command(monkeypatch, capsys), []
    for name, (change, _) in cases.items():
        folder = tmp_path / name
        folder.mkdir()
        for file in tmp_path.glob("*.safetensors"):
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / "p.pt").write_bytes((tmp_path / "p.pt").read_bytes())
        calls.append(["eval", str(write_spec(folder, **change)), "--runs", str(tmp_path / "none")])
    calls.append(["runs", "show", "half-written", "--runs", str(tmp_path / "runs")])
    calls.append(["runs", "show", "half-writen", "--runs", str(tmp_path / "runs")])
    answers = [(exit_code, error) for exit_code, _, error in (steer(*arguments) for arguments in calls)]
    for (name, (_, message)), (exit_code, error) in zip(cases.items(), answers, strict=False):
        assert exit_code == 2, (name, error)
        assert message in error and "Traceback" not in error, (name, error)
    for exit_code, error in answers[-2:]:
        assert exit_code == 2 and "Traceback" not in error and "half-written" in error
    assert not (tmp_path / "none").exists()


def test_a_run_says_which_arms_leave_attention_sinks_out_and_their_rows_are_their_own(
    tmp_path: Path, noise: SteeringVector, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steering.model.sinks import Sinks

    spec = small_spec(noise, 3)
    before = run_evaluation(spec, Store(tmp_path / "before"), {noise.digest: noise})
    model = load_model("builtin:base")
    model.extra["sinks"] = Sinks((0,), 120.0, 1)  # as if it had been measured
    after = run_evaluation(spec, Store(tmp_path / "after"), {noise.digest: noise}, models={"builtin:base": model})
    assert "sinks" not in before.manifest.facts
    assert list(after.manifest.facts["sinks"]) == ["steered"]
    assert "leaves out position 0, an attention sink of builtin:base" in after.manifest.facts["sinks"]["steered"][0]
    edits = after.table(["arm", "edit_ratio"]).to_pylist()
    assert all(row["edit_ratio"][0] == 0 < row["edit_ratio"][1] for row in edits if row["arm"] == "steered")
    keys = [{r["arm"]: r["key"] for r in run.table(["arm", "key"]).to_pylist()} for run in (before, after)]
    assert keys[0]["base"] == keys[1]["base"] and keys[0]["steered"] != keys[1]["steered"]
    evidence = gather(after)
    shown = "\n".join(
        note for table in arm_tables(evidence, arms_frame(evidence), "standard-test") for note in table.notes
    )
    assert "attention sink" in shown
