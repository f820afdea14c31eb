"""What verbs say of inputs that look right and are not: special tokens in plain texts, sides that are alike, ids and names given twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.tasks.own_texts import own_prompts
from probes.evaluation import compare
from steering.errors import BadInput
from steering.model.models import load_model
from steering.model.prompts import controls_in
from steering.vector.vectors import SteeringVector
from tests.chat_model import save_chat_model
from tests.experiments.command_line import Steer, command


@pytest.fixture
def steer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Steer:
    return command(monkeypatch, capsys)


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model with a chat template and its special tokens."""
    return save_chat_model(tmp_path_factory.mktemp("chat"))


def texts(place: Path, name: str, *lines: str) -> Path:
    (place / name).write_text("\n".join(lines))
    return place / name


def test_special_tokens_that_a_plain_text_spells_are_said(steer: Steer, chatty: Path, tmp_path: Path) -> None:
    good = texts(tmp_path, "good.txt", "two and two", "what is <|im_end|> here", "one more", "and one")
    bad = texts(tmp_path, "bad.txt", "nothing", "at all", "of that", "kind here")
    given = ("--base", chatty, "--site", "blocks.1.hook_resid_post", "--positive", good, "--negative", bad)
    code, _, said = steer("extract", tmp_path / "v.safetensors", *given)
    assert code == 0 and "1 of 8 texts spell special tokens" in said and "<|im_end|>" in said
    code, _, said = steer("extract", tmp_path / "w.safetensors", *given, "--texts", "chat")
    assert code == 0 and "special tokens" not in said, "in a template they are letters"
    prompt = "go on <|im_start|> now"
    for arguments in (
        ("generate", "--max-new-tokens", "2"),
        ("plan", "explain", f"add {tmp_path / 'v.safetensors'} 1v"),
    ):
        code, _, said = steer(*arguments, "--model", chatty, "--prompt", prompt)
        assert code == 0 and "spells special tokens" in said.replace("text spells", "text spells"), said
    code, _, said = steer("generate", "--max-new-tokens", "2", "--model", chatty, "--prompt", prompt, "--chat")
    assert code == 0 and "special tokens" not in said
    assert controls_in(load_model(str(chatty)), "a <|im_start|> b <|im_end|>") == ("<|im_start|>", "<|im_end|>")
    assert controls_in(load_model(str(chatty)), "a < b") == ()


def test_sides_that_are_alike_are_counted_or_refused(steer: Steer, tmp_path: Path) -> None:
    place = tmp_path / "p.jsonl"
    given = ("extract", tmp_path / "v.safetensors", "--pairs", place)
    rows = [{"positive": f"+ {k}", "negative": f"- {k}" if k else "+ 0"} for k in range(6)]
    place.write_text("\n".join(map(json.dumps, rows)))
    code, _, said = steer(*given)
    assert code == 0 and "1 of 6 pairs have the same text on both sides" in said
    place.write_text("\n".join(json.dumps({**row, "negative": row["positive"]}) for row in rows))
    code, out, said = steer(*given)
    assert (code, out) == (2, "") and "both sides hold the same texts" in said
    one = texts(tmp_path, "one.txt", "+ 1", "+ 2", "+ 3", "+ 4")
    other = texts(tmp_path, "other.txt", "+ 1", "- 2", "- 3", "- 4")
    both = ("--positive", one, "--negative", one)
    assert "same texts" in steer("extract", tmp_path / "v.safetensors", *both)[2]
    code, _, said = steer("extract", tmp_path / "v.safetensors", "--positive", one, "--negative", other)
    assert code == 0 and "1 texts stand on both sides" in said
    code, out, said = steer("vectors", "quality", tmp_path / "v.safetensors", "--model", "builtin:base", *both)
    assert (code, out) == (2, "") and "same texts" in said


def test_an_id_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "prompts.jsonl"
    place.write_text('{"id": 1, "prompt": "a"}\n{"id": "b", "prompt": "b"}\n{"id": "1", "prompt": "c"}')
    with pytest.raises(BadInput, match="row 2: the id '1' is that of .*row 0 too"):
        own_prompts(place)


def test_names_that_cannot_be_models_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "steering.model.models.AutoModelForCausalLM.from_pretrained", lambda *a, **k: pytest.fail("asked a hub")
    )
    for name, said in (("", "name is empty"), ("  ", "name is empty"), ("smolm2", "Did you mean 'smollm2'")):
        with pytest.raises(BadInput, match=said):
            load_model(name)


def test_an_adapter_whose_base_is_not_there_says_who_named_it(tmp_path: Path) -> None:
    facts = {"base_model_name_or_path": str(tmp_path / "gone"), "peft_type": "LORA"}
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(facts))
    with pytest.raises(
        BadInput, match=r"adapter is an adapter of '.*gone', which its configuration names as its base.*Or pass base"
    ):
        load_model(str(tmp_path / "adapter"))


def test_a_report_is_no_vector(tmp_path: Path) -> None:
    (tmp_path / "v.quality.json").write_text("{}")
    with pytest.raises(BadInput, match="is a text file .JSON., not a vector"):
        SteeringVector.load(tmp_path / "v.quality.json")


def test_a_control_that_is_worse_than_chance_counts_as_chance() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 60)
    own = np.stack([np.zeros(120), y + rng.normal(size=120)], 1)
    groups = np.arange(120) // 2
    found = compare(y, own, [-own], groups, "upside down")
    assert found.other.value == pytest.approx(1 - found.own.value)
    assert found.difference.value == pytest.approx(found.own.value - 0.5)
    assert found.difference.high <= 0.5
