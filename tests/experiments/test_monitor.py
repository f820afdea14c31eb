"""What is watched along a text is what a plain forward pass holds there; what does not fit, or is another model's, is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.evaluation.evaluate import run_evaluation
from experiments.evaluation.spec import EvalSpec, Generating
from experiments.store.runs import Arm, Store
from experiments.studies.monitor import monitor, strongest_of
from probes.probe import Probe, ProbeProvenance
from saes.loading import load_dictionary
from steering.errors import BadInput
from steering.model.models import load_model
from steering.model.sinks import Sinks
from steering.model.sites import Site
from steering.vector.vectors import Provenance, SteeringVector
from tests.experiments.command_line import Steer, command
from tests.experiments.fake_run import make_fake_run

steer = pytest.fixture(command)
TEXT = "rules + 15 ; * 9 ; goal 31 start 42 91 9 ? think first let us try 42"


def drawn(layer: int, seed: int = 0, model: str | None = None) -> SteeringVector:
    base = load_model("builtin:base")
    direction = torch.randn(128, generator=torch.Generator().manual_seed(seed)) * 7
    return SteeringVector(f"v{layer}", Site(layer), direction, Provenance("test", model or base.fingerprint))


def test_values_are_those_of_a_plain_forward_pass() -> None:
    model = load_model("builtin:base")
    ids = list(model.tokenizer(TEXT)["input_ids"])
    weights = torch.randn(2, 128, generator=torch.Generator().manual_seed(3))
    probe = Probe(
        "logistic", Site(2), ("no", "yes"), (weights,), (torch.tensor([0.3, -0.2]),), ProbeProvenance("thinks")
    )
    dictionary = load_dictionary("builtin:base", model=model)
    vectors = [drawn(0), drawn(3)]
    found = monitor(model, ids, vectors, [probe], dictionary, [3, 183])
    with torch.no_grad():
        states = model.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        inner = model.model.model.layers  # the last hidden state is behind the final norm; read the layer itself
        kept: list[torch.Tensor] = []
        handle = inner[3].register_forward_hook(
            lambda m, a, out: kept.append(out[0] if isinstance(out, tuple) else out)
        )
        model.model(torch.tensor([ids]))
        handle.remove()
    held = {0: states[1][0], 2: states[3][0], 3: kept[0].reshape(-1, 128)}
    assert [one.kind for one in found.series] == ["projection", "projection", "probe", "latent", "latent"]
    for one, vector in zip(found.series, vectors, strict=False):
        unit = vector.direction / vector.direction.norm()
        assert torch.allclose(torch.tensor(one.values), held[vector.site.layer] @ unit, atol=1e-4)
        assert one.remark == ""
    assert torch.allclose(torch.tensor(found.series[2].values), probe.probabilities(held[2])[:, 1], atol=1e-5)
    latents = dictionary.encode(held[dictionary.site.layer])
    for one, number in zip(found.series[3:], (3, 183), strict=True):
        assert torch.allclose(torch.tensor(one.values), latents[:, number].cpu(), atol=1e-3)
    assert found.tokens[found.series[0].largest] and len(found.tokens) == len(ids) and found.remarks == ()


def test_means_and_largest_tokens_leave_attention_sinks_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("builtin:base")
    ids = list(model.tokenizer(TEXT)["input_ids"])
    whole = monitor(model, ids, [drawn(3)]).series[0]
    assert whole.sinks == () and whole.mean == pytest.approx(sum(whole.values) / len(ids))
    first = max(range(len(ids)), key=whole.values.__getitem__)
    monkeypatch.setitem(model.extra, "sinks", Sinks((first,), 40.0, 2))
    found = monitor(model, ids, [drawn(3)])
    (one,) = found.series
    others = [value for place, value in enumerate(whole.values) if place != first]
    assert one.values == whole.values and one.mean == pytest.approx(sum(others) / len(others))
    assert one.values[one.largest] == max(others) and first not in one.places
    (said,) = found.remarks
    assert f"leaves out position {first}, an attention sink of builtin:base" in said
    document = found.to_dict()["series"][0]
    assert (document["sinks"], document["largest"]) == ([first], one.largest) and document["mean"] == one.mean
    monkeypatch.setitem(model.extra, "sinks", Sinks((0,), 40.0, 2))
    alone = monitor(model, ids[:1], [drawn(3)])
    assert alone.remarks == () and alone.series[0].mean == alone.series[0].values[0], "there is nothing else to show"


def test_what_is_another_models_or_unknown_is_said() -> None:
    model = load_model("builtin:base")
    ids = list(model.tokenizer("start 42 hello")["input_ids"])
    found = monitor(model, ids, [drawn(1, model="0123456789abcdef"), drawn(1, model="unknown")])
    assert "0123456789abcdef" in found.series[0].remark and "unknown" in found.series[1].remark


def test_what_cannot_be_watched_is_refused() -> None:
    model = load_model("builtin:base")
    ids = list(model.tokenizer(TEXT)["input_ids"])
    dictionary = load_dictionary("builtin:base", model=model)
    for arguments, words in (
        ({}, "nothing to watch"),
        ({"latents": [3]}, "name it too"),
        ({"dictionary": dictionary, "latents": [10**6]}, "does not exist"),
        ({"vectors": [replace(drawn(1), direction=torch.ones(64))]}, "width 64"),
        ({"vectors": [drawn(9)]}, "9"),
    ):
        with pytest.raises(BadInput, match=words):
            monitor(model, ids, **arguments)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="0 tokens"):
        monitor(model, [], [drawn(1)])


def test_the_command_reads_a_text_a_file_and_a_stored_row(steer: Steer, tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    drawn(1).save(path)
    code, out, error = steer("monitor", "--text", TEXT, "--vector", str(path), "--json")
    assert code == 0, error
    one = json.loads(out)
    (tmp_path / "t.txt").write_text(TEXT)
    assert json.loads(steer("monitor", "--file", str(tmp_path / "t.txt"), "--vector", str(path), "--json")[1]) == one
    arms = (Arm(name="base", label="base", role="baseline", model="builtin:thinking", form="bare"),)
    spec = EvalSpec(name="two", splits={"standard-test": 2}, arms=arms, generation=Generating(max_new_tokens=12))
    run = run_evaluation(spec, Store(tmp_path / "runs"), {})
    row = run.table().to_pylist()[0]
    given = (
        "monitor",
        "--row",
        f"{run.manifest.run_id}:{row['key']}",
        "--runs",
        str(tmp_path / "runs"),
        "--vector",
        str(path),
    )
    code, out, error = steer(*given, "--json")
    assert code == 0, error
    assert json.loads(out)["token_ids"] == [*row["prompt_ids"], *row["token_ids"]]
    assert "written by builtin:thinking" in error and "v1" in steer(*given)[1]
    strange = make_fake_run(tmp_path / "fake", 1)
    key = strange.table().to_pylist()[0]["key"]
    code, _, error = steer(
        "monitor", "--row", f"{strange.manifest.run_id}:{key}", "--runs", str(tmp_path / "fake"), "--vector", str(path)
    )
    assert code == 2 and "none of builtin:base's" in error
    assert "'hello'" in steer("monitor", "--text", "start hello", "--vector", str(path))[2]
    for given, words in (
        (("--vector", str(path)), "one text"),
        (("--text", "a", "--file", "b", "--vector", str(path)), "one text"),
        (("--row", "nothing", "--vector", str(path)), "RUN:KEY"),
        (("--text", TEXT, "--sae", "builtin:base", "--latents", "x"), "numbers"),
        (("--text", TEXT), "nothing to watch"),
    ):
        code, _, error = steer("monitor", *given)
        assert code == 2 and words in error, error


def test_silent_latents_are_not_among_the_strongest() -> None:
    active = torch.tensor([[0.0, 3.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    assert strongest_of(active, 3) == (((1, 3.0), (3, 1.0)), ())
    with pytest.raises(BadInput, match="not finite"):
        strongest_of(torch.tensor([[float("nan")]]), 1)
