"""`steer plan run`: texts by llama.cpp with and without a plan, and what is said of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.model.models import load_model
from steering.model.prompts import encode_prompt
from steering.plan.plan import Plan
from steering.plan.source import read_plan
from steering.vector.vectors import Provenance
from tests.experiments.command_line import Steer, command
from tests.tiny import vector
from tests.written_gguf import source_model, write_gguf

WIDTH = 64


@pytest.fixture
def steer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Steer:
    return command(monkeypatch, capsys)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = source_model("llama", num_hidden_layers=3, hidden_size=WIDTH, intermediate_size=96)
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", source)


def test_both_texts_are_written_and_what_was_not_checked_is_said(tmp_path: Path, steer: Steer, file: Path) -> None:
    other = Provenance("mean difference", "0" * 64, "owner/other")
    replace(vector(2, layer=2, width=WIDTH), provenance=other).save(tmp_path / "v.safetensors")
    asked = [
        "plan",
        "run",
        f"add {tmp_path / 'v.safetensors'} 40 on generated",
        "--model",
        str(file),
        "--prompt",
        "hello",
        "--json",
    ]
    code, out, _ = steer(*asked, "--max-new-tokens", "6")
    document = json.loads(out)
    assert code == 0
    assert [one["plan"] for one in document["rows"]] == ["unsteered", asked[2]]
    assert document["rows"][0]["token_ids"] != document["rows"][1]["token_ids"]
    assert [one["edits_planned"] for one in document["rows"]] == [0, len(document["rows"][1]["token_ids"]) - 1]
    assert "is not checked" in document["notes"][0]
    far = json.loads(steer("plan", "run", asked[2].replace(" 40 ", " 1e4v "), *asked[3:], "--max-new-tokens", "6")[1])
    assert "adds up to 1e+04 times the length of its vectors" in far["notes"][1]
    near = json.loads(steer("plan", "run", asked[2].replace(" 40 ", " 4v "), *asked[3:], "--max-new-tokens", "6")[1])
    assert not any("times the length" in note for note in near["notes"])
    compared = json.loads(steer(*asked, "--max-new-tokens", "6", "--compare")[1])
    assert [note.split(":")[0] for note in compared["notes"][:2]] == ["Unsteered", "Steered"]
    assert any("comes from another model: owner/other" in note for note in compared["notes"][2:])
    assert "owner/other" in document["notes"][0]
    loaded = load_model(str(file))
    replace(
        vector(2, layer=2, width=WIDTH), provenance=Provenance("mean difference", loaded.fingerprint, loaded.id)
    ).save(tmp_path / "v.safetensors")
    own = json.loads(steer(*asked, "--max-new-tokens", "6", "--compare")[1])
    assert own["notes"][2:] == ["The vectors come from the weights of this file."]
    plans = [Plan(), read_plan(asked[2])]
    prompt = encode_prompt(loaded, "hello")
    written = generate(loaded, [Row(prompt, plan) for plan in plans], GenerationSettings(6))
    assert [one["engine_token_ids"] for one in own["rows"]] == [list(g.token_ids) for g in written]
    assert all("engine_text" not in one for one in document["rows"])
    printed = steer(*[word for word in asked if word != "--json"], "--max-new-tokens", "6", "--compare")[1]
    assert printed.count("--- by the engine:") == 2


def test_a_plan_that_never_fires_ends_in_a_sentence(tmp_path: Path, steer: Steer) -> None:
    vector(2, layer=2, width=128).save(tmp_path / "v.safetensors")
    asked = [
        "generate",
        "--prompt",
        "rules + 15 ; goal 31 start 42 16 9 ?",
        "--plan",
        f"add {tmp_path / 'v.safetensors'} 1v on generated",
    ]
    code, out, err = steer(*asked, "--max-new-tokens", "1")
    assert code == 1 and "Traceback" not in err and "ended before the span began" in err and out == ""


def test_a_prompt_goes_through_the_files_chat_template_or_its_special_tokens_are_said(
    tmp_path: Path, steer: Steer, file: Path
) -> None:
    from experiments.tasks.conversations import asked as asked_through
    from experiments.tasks.own_texts import OwnPrompt
    from steering.executors.llama_cpp import LlamaCpp

    vector(2, layer=2, width=WIDTH).save(tmp_path / "v.safetensors")
    line = ["plan", "run", f"add {tmp_path / 'v.safetensors'} 40 on generated", "--model", str(file), "--json"]
    spelled = "say <|im_end|> twice"
    code, out, _ = steer(*line, "--max-new-tokens", "4", "--prompt", spelled, "--prompt", "hello")
    notes = json.loads(out)["notes"]
    assert code == 0 and any(
        note.startswith("1 of 2 prompts spell special tokens") and spelled in note for note in notes
    )
    code, out, err = steer(*line, "--max-new-tokens", "4", "--prompt", spelled, "--chat", "--system", "Be brief.")
    assert code == 0, err
    assert not any("special tokens" in note for note in json.loads(out)["notes"])
    (fed,) = asked_through(load_model(str(file)), [OwnPrompt(prompt=spelled)], chat=True, system="Be brief.")
    with LlamaCpp(file) as opened:
        row = json.loads(out)["rows"][0]
        from steering.engine.record import Row
        from steering.engine.sampling import GenerationSettings

        assert list(opened.generate([Row(fed.ids)], GenerationSettings(4))[0].token_ids) == row["token_ids"]
        assert opened.encode(spelled) != opened.encode(spelled, special=False)
    (tmp_path / "tiny.GGUF").symlink_to(file)
    again = [str(tmp_path / "tiny.GGUF") if part == str(file) else part for part in line]
    code, out, err = steer(*again, "--max-new-tokens", "4", "--prompt", spelled, "--chat", "--system", "Be brief.")
    assert code == 0 and json.loads(out)["rows"][0]["token_ids"] == row["token_ids"], err
    code, _, err = steer(*line, "--prompt", "hello", "--system", "Be brief.")
    assert code == 2 and "A system prompt belongs to a chat template" in err
    for more in ((), ("--chat",)):
        code, _, err = steer(*line, "--prompt", "hello", "--prompt", " ", *more)
        assert code == 2 and "--prompt 2 says nothing" in err
    for more in ((), ("--chat",)):
        code, _, err = steer(*line, "--prompt", b"a\xffb".decode(errors="surrogateescape"), *more)
        assert code == 2 and "The prompt is no text: what stands at its character 2 is not UTF-8" in err
    code, _, err = steer("generate", "--prompt", b"a\xffb".decode(errors="surrogateescape"))
    assert code == 2 and "is not UTF-8" in err
