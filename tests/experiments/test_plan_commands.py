"""`steer plan`, `steer vectors` and `steer generate`: data on standard output, one message and exit code 2 for mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from experiments.commands import cli
from steering.model.models import load_model
from steering.model.sites import Site
from steering.plan.plan import Plan
from steering.vector.interchange import export_gguf
from steering.vector.vectors import Provenance, SteeringVector

Steer = Callable[..., tuple[int, str, str]]


@pytest.fixture
def steer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Steer:
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["steer", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, " ".join(said.err.split())

    return call


@pytest.fixture
def wait(tmp_path: Path) -> Path:
    direction = torch.randn(load_model("builtin:base").d_model, generator=torch.Generator().manual_seed(0))
    return SteeringVector("wait", Site(2), direction, Provenance("random", "none")).save(tmp_path / "wait.safetensors")


def test_a_one_line_plan_reads_back_from_what_it_prints(steer: Steer, wait: Path, tmp_path: Path) -> None:
    line = "add wait 0.5v~decay:8 on generated - specials; rotate wait 20deg at blocks.3.hook_resid_pre on last_prompt"
    code, out, _ = steer("plan", "show", line, "--vector", f"wait={wait}")
    digest = out.splitlines()[0].removeprefix("# ")
    vector = SteeringVector.load(wait)
    assert code == 0 and Plan.from_yaml(out, {vector.digest: vector}).digest == digest
    (tmp_path / "plan.yaml").write_text(out)
    code, again, _ = steer("plan", "show", str(tmp_path / "plan.yaml"), "--vector", f"wait={wait}", "--json")
    assert code == 0 and Plan.from_dict(json.loads(again), {vector.digest: vector}).digest == digest


def test_the_schema_accepts_what_plans_write(steer: Steer, wait: Path) -> None:
    code, out, _ = steer("plan", "schema")
    schema = json.loads(out)
    _, plan, _ = steer("plan", "show", f"add {wait} 2 on all")
    assert code == 0 and set(yaml.safe_load(plan)) <= set(schema["properties"])


def test_explain_prints_the_tokens_and_what_covers_them(steer: Steer, wait: Path) -> None:
    prompt = "rules + 15 ; * 9 ; - 4 ; goal 31 start 42 91 9 25 73 ?"
    code, out, _ = steer("plan", "explain", f'add {wait} 1v on at:";"', "--prompt", prompt, "--json")
    tokens = json.loads(out)
    assert code == 0
    assert [t["text"].strip() for t in tokens if t["interventions"]] == [";", ";", ";"]
    code, out, _ = steer("plan", "explain", f'add {wait} 1v on at:";"', "--prompt", prompt)
    assert code == 0 and "what the plan covers" in out and "blocks.2.hook_resid_post" in out


def test_generate_shows_the_text_with_and_without_each_plan(steer: Steer, wait: Path) -> None:
    arguments = ["generate", "--prompt", "rules + 15 ; * 9 ; goal 31 start 42 91 9 ?", "--max-new-tokens", "8"]
    code, out, _ = steer(*arguments, "--plan", f"add {wait} 3v on all", "--plan", f"ablate {wait} on prompt", "--json")
    bare, added, ablated = json.loads(out)
    assert code == 0 and bare["edits_fired"] == 0 and bare["plan"] == "unsteered"
    assert added["edits_fired"] == added["edits_planned"] > 8 and added["text"] != bare["text"]
    assert 0 < ablated["edits_fired"] < added["edits_fired"] and ablated["largest_edit"] > 0
    code, out, _ = steer(*arguments)
    assert code == 0 and out.startswith("--- unsteered: 0 edits")
    _, nothing = json.loads(steer(*arguments, "--plan", f"add {wait} 0v on generated", "--json")[1])
    assert (
        nothing["text"] == bare["text"]
        and "changed nothing: each of its 2 edits has length 0" in nothing["warnings"][0]
    )


def test_vectors_of_another_model_are_said_and_refused_when_strict(steer: Steer, wait: Path, tmp_path: Path) -> None:
    own = SteeringVector.load(wait)
    made = Provenance("difference of means", "0123456789abcdef", "org/other")
    foreign = SteeringVector("foreign", own.site, own.direction, made).save(tmp_path / "foreign.safetensors")
    said = "foreign comes from another model: org/other, not builtin:base."
    prompt = ["--prompt", "rules + 15 ; goal 31 start 42 ?"]
    code, out, error = steer("plan", "explain", f"add {foreign} 1v", *prompt, "--json")
    assert code == 0 and json.loads(out) and f"warning: {said}" in error
    code, out, _ = steer("plan", "explain", f"add {foreign} 1v", *prompt)
    assert code == 0 and "warning: foreign comes from another model" in " ".join(out.split())
    arguments = ["generate", *prompt, "--max-new-tokens", "4", "--plan", f"add {foreign} 40r"]
    code, out, _ = steer(*arguments)
    assert code == 0 and f"warning: {said}" in out and "warning: The largest edit is 40 times the activation" in out
    bare, steered = json.loads(steer(*arguments, "--json")[1])
    assert bare["warnings"] == [] and len(steered["warnings"]) == 2 and steered["nonfinite"] is None
    for command in (["plan", "explain", f"add {foreign} 1v", *prompt], arguments):
        code, _, error = steer(*command, "--strict")
        assert code == 2 and "comes from another model" in error


def test_vectors_travel_through_gguf_and_back(steer: Steer, wait: Path, tmp_path: Path) -> None:
    code, out, _ = steer("vectors", "show", str(wait), "--json")
    (fact,) = json.loads(out)
    assert code == 0 and fact["site"] == "blocks.2.hook_resid_post"
    target = tmp_path / "wait.gguf"
    code, _, _ = steer(
        "vectors", "export", str(wait), "--out", str(target), "--layers", "llama.cpp", "--model-hint", "qwen2"
    )
    assert code == 0
    code, out, _ = steer("vectors", "import", str(target), "--out", str(tmp_path / "in"), "--layers", "llama.cpp")
    (written,) = json.loads(out)
    back = SteeringVector.load(written["file"])
    assert code == 0 and back.site == Site(2)
    assert torch.allclose(back.direction, SteeringVector.load(wait).direction)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "show", "addd WAIT 1"], "Did you mean 'add'"),
        (["plan", "show", "add WAIT 1 on generatd"], "Did you mean 'generated'"),
        (["plan", "show", "add nothing 1"], "nothing"),
        (["plan", "show", "missing.yaml"], "No plan file at missing.yaml"),
        (["plan", "show", "add w 1", "--vector", "w"], "is not NAME=FILE"),
        (
            ["plan", "explain", 'add WAIT 1v on text:"zebra"', "--prompt", "rules + 1 ?"],
            "matches nothing in the prompt",
        ),
        (["plan", "explain", "add WAIT 1v at blocks.9.hook_resid_post", "--prompt", "rules ?"], "4 layers, 0 to 3"),
        (["generate", "--prompt", "rules ?", "--plan", "add WAIT 1v on position:40"], "position 40 is not in it"),
        (["vectors", "import", "GGUF", "--out", "OUT"], "needs --layers"),
        (["vectors", "import", "GGUF", "--out", "OUT", "--format", "ggu"], "Did you mean 'gguf'"),
        (["vectors", "show", "missing.safetensors"], "missing.safetensors"),
    ],
)
def test_mistakes_end_with_one_message(
    steer: Steer, wait: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    gguf = export_gguf([SteeringVector.load(wait)], tmp_path / "w.gguf", layers="llama.cpp", model_hint="qwen2")
    filled = [
        a.replace("WAIT", str(wait)).replace("GGUF", str(gguf)).replace("OUT", str(tmp_path / "out")) for a in arguments
    ]
    code, out, error = steer(*filled)
    assert code == 2 and out == "" and message in error and "Traceback" not in error


def test_a_plan_of_additions_is_written_for_servers(steer: Steer, wait: Path, tmp_path: Path) -> None:
    out = tmp_path / "spec.json"
    code, said, err = steer("plan", "export", f"add {wait} 2v on all", "--out", str(out), "--model-hint", "llama")
    assert code == 0 and json.loads(said) == {"file": str(out)} and "leaves them out" in err
    assert (tmp_path / json.loads(out.read_text())["vectors"][0]["source"]).is_file()
    code, _, err = steer("plan", "export", f"add {wait} 2v on all | sinks", "--out", str(out), "--model-hint", "llama")
    assert code == 2 and "spec.json is there already" in err
    out = tmp_path / "other.json"
    code, _, err = steer("plan", "export", f"add {wait} 2v on all | sinks", "--out", str(out), "--model-hint", "llama")
    assert code == 0 and not err
    out = tmp_path / "third.json"
    code, _, err = steer("plan", "export", f"ablate {wait} on all", "--out", str(out), "--model-hint", "llama")
    assert code == 2 and "interventions.0 is 'ablate'" in err
    code, _, err = steer(
        "plan", "export", f"add {wait} 1v", "--out", str(out), "--model-hint", "llama", "--format", "onnx"
    )
    assert code == 2 and "Valid: easysteer, llama.cpp" in err
