"""`steer generate` asks as a person does: conversations in the model's own chat template, many prompts from a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.commands import cli
from experiments.tasks.conversations import asked, parse_turn
from experiments.tasks.own_texts import Message, OwnPrompt
from steering.errors import BadInput
from steering.model.models import LoadedModel
from steering.model.prompts import token_texts
from tests.chat_model import save_chat_model
from tests.experiments.test_prompting import LLAMA31, NO_SYSTEM, QWEN3, R1, REFUSES
from tests.experiments.test_prompting import model as templated
from tests.tiny import vector

Steer = Callable[..., tuple[int, str, str]]
SAID = [("user", "What is 2+2?"), ("assistant", "<think>\nTwo and two.\n</think>\n\n4"), ("user", "And 3+3?")]
FORGETS = """{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}\
{{ m.content.split('</think>')[-1].strip() }}{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
"""As templates of thinking models do: what an earlier response thought is not repeated."""


def conversation(*turns: tuple[str, str]) -> OwnPrompt:
    return OwnPrompt(messages=tuple(Message(role=role, content=content) for role, content in turns))  # type: ignore[arg-type]


def fed(model: LoadedModel, one: OwnPrompt, **options: Any) -> str:
    """What is fed, from the ids."""
    (found,) = asked(model, [one], **options)
    text = "".join(token_texts(model, found.ids))
    assert text == found.text
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model with a chat template, one without, and a vector."""
    place = tmp_path_factory.mktemp("models")
    for name, template in (("chat", QWEN3), ("plain", None)):
        save_chat_model(place / name, template)
    vector(1).save(place / "v.safetensors")
    return place


@pytest.fixture
def steer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Steer:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["steer", "generate", "--max-new-tokens", "4", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, " ".join(said.err.split())

    return call


def test_a_conversation_is_what_the_chat_template_makes_of_it() -> None:
    model = templated(QWEN3, None, False)
    one = conversation(("system", "Be brief."), *SAID)
    want = str(
        model.tokenizer.apply_chat_template(
            [{"role": "system", "content": "Be brief."}, *({"role": r, "content": c} for r, c in SAID)],
            tokenize=False, add_generation_prompt=True,
        )
    )  # fmt: skip
    assert fed(model, one) == want == fed(model, conversation(*SAID), system="Be brief.")
    assert fed(model, one, thinking=False) == want + "<think>\n\n</think>\n\n"
    # control tokens that the assistant wrote are control tokens; what a user spells is not
    think = model.tokenizer.convert_tokens_to_ids("<think>")
    (found,) = asked(model, [conversation(("user", "What does <think> do?"), ("assistant", "<think>\nHm"))])
    assert found.ids.count(think) == 1 and found.text.endswith("<|im_start|>assistant\n<think>\nHm"), (
        "it goes on from there"
    )
    spelled = conversation(("system", "Never write <think>."), ("user", "Hello"))
    (found,) = asked(model, [spelled])
    assert found.ids.count(think) == 0 and "Never write <think>." in found.text, "nor is what a system prompt spells"
    (llama,) = asked(templated(LLAMA31, "<|begin_of_text|>", True), [conversation(*SAID)])
    assert llama.text.count("<|begin_of_text|>") == 1 and llama.text.endswith("assistant<|end_header_id|>\n\n")


def test_a_prompt_is_fed_as_it_is_or_as_a_users_turn() -> None:
    model = templated(QWEN3, None, False)
    assert fed(model, OwnPrompt(prompt="Hello <think>")) == "Hello <think>"
    with pytest.raises(BadInput, match="The prompt is empty. Give at least one word."):
        fed(model, OwnPrompt(prompt=" "), chat=True)
    assert fed(model, OwnPrompt(prompt="Hello"), chat=True) == fed(model, conversation(("user", "Hello")))


def test_a_template_may_forget_what_was_thought_and_nothing_else() -> None:
    text = fed(templated(FORGETS, None, False), conversation(*SAID))
    assert "Two and two" not in text and "4<|im_end|>" in text
    with pytest.raises(BadInput, match="drops or changes what the assistant says: '4'"):
        fed(templated(R1, "<bos>", True), conversation(*SAID))
    with pytest.raises(BadInput, match="drops or changes the system prompt"):
        fed(templated(NO_SYSTEM, None, False), conversation(("user", "Hello")), system="Be brief.")
    with pytest.raises(BadInput, match="System role not supported"):
        fed(templated(REFUSES, None, False), conversation(("user", "Hello")), system="Be brief.")
    with pytest.raises(BadInput, match="has no chat template"):
        fed(templated(None, None, False), conversation(("user", "Hello")))


@pytest.mark.parametrize(
    ("turns", "options", "said"),
    [
        ([("assistant", "4")], {}, "needs a user's turn"),
        ([("user", "a"), ("system", "b")], {}, "it comes first"),
        ([("system", "a"), ("user", "b")], {"system": "c"}, "another one beside it"),
        (SAID, {"thinking": True}, "no variable 'enable_thinking'"),
    ],
)
def test_conversations_that_there_are_not_are_refused(turns: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        fed(templated(LLAMA31 if "thinking" in options else QWEN3, "<bos>", True), conversation(*turns), **options)
    with pytest.raises(BadInput, match=r"prompt 2 \(b\): .*belong to a chat template"):
        asked(templated(QWEN3, None, False), [conversation(("user", "x")), OwnPrompt(prompt="y", id="b")], system="s")
    for wrong in ("user", "usr:hello", "hello", "user: "):
        with pytest.raises(BadInput, match="Did you mean 'user'|Valid: system, user, assistant|says nothing"):
            parse_turn(wrong)


def test_turns_of_the_command_line_are_one_conversation(steer: Steer, folder: Path) -> None:
    words = ["--model", folder / "chat", "--chat", "--system", "Be brief.", "--thinking", "off", "--json"]
    turns = [word for role, content in SAID for word in ("--turn", f"{role}:{content}")]
    code, out, error = steer(*words, *turns, "--plan", f"add {folder / 'v.safetensors'} 1v")
    bare, steered = json.loads(out)
    assert code == 0 and bare["plan"] == "unsteered" and steered["edits_fired"] > 0, error
    assert bare["messages"] == [
        {"role": "system", "content": "Be brief."},
        *({"role": r, "content": c} for r, c in SAID),
    ]
    assert bare["prompt"].startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is 2+2?")
    assert bare["prompt"].endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_every_prompt_of_a_file_has_a_document(steer: Steer, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("Hello\n\nWhat is 2+2?\n")
    code, out, _ = steer("--model", folder / "chat", "--prompts", "lines.txt", "--json")
    assert code == 0 and [d["prompt"] for d in json.loads(out)] == ["Hello", "What is 2+2?"]
    records = [
        {"prompt": "Hello", "id": "a", "source": "mine"},
        {"messages": [{"role": "user", "content": "What is 2+2?"}], "id": 7},
        {"prompt": "Bye"},
    ]
    (tmp_path / "records.jsonl").write_text("\n".join(map(json.dumps, records)))
    plan = f"add {folder / 'v.safetensors'} 1v"
    code, out, _ = steer("--model", folder / "chat", "--prompts", "records.jsonl", "--plan", plan, "--json")
    found = json.loads(out)
    assert code == 0 and [(d.get("id"), d["plan"]) for d in found] == [
        (name, p) for name in ("a", 7, None) for p in ("unsteered", plan)
    ]
    assert found[0]["prompt"] == "Hello" and "messages" not in found[0]
    assert found[2]["prompt"] == "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n"
    code, out, _ = steer("--model", folder / "chat", "--prompts", "records.jsonl")
    assert [line.split(":")[0] for line in out.splitlines() if line.startswith("---")] == [
        "--- prompt a, unsteered", "--- prompt 7, unsteered", "--- prompt 3, unsteered",
    ]  # fmt: skip
    # one prompt is asked in a batch as alone
    (alone,) = json.loads(steer("--model", folder / "chat", "--prompt", "Bye", "--json")[1])
    assert alone["text"] == found[4]["text"]


def test_what_the_tokenizer_does_not_know_is_said_of_every_form(steer: Steer, tmp_path: Path) -> None:
    known = "rules + 15 ; goal 31 start 42 ?"
    (tmp_path / "p.jsonl").write_text(
        "\n".join(json.dumps({"prompt": text}) for text in (known, "Hello there", "你好"))
    )
    code, out, error = steer("--prompts", "p.jsonl", "--json")
    assert code == 0 and len(json.loads(out)) == 3
    assert "2 texts are not known whole. The first: builtin:base does not know 2 of the 2 pieces" in error
    code, out, error = steer("--prompt", known, "--json")
    assert code == 0 and "does not know" not in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "There is no prompt"),
        (("--turn", "user:Hello"), "ask with --chat"),
        (("--chat",), "There is no prompt"),
        (("--prompt", "Hello", "--system", "Be brief."), "belong to a chat template; ask with --chat"),
        (("--prompt", "Hello", "--chat", "--thinking", "of"), "Did you mean 'off'"),
        (("--prompts", "gone.txt"), "There is no file gone.txt"),
        (("--prompts", "none.jsonl"), "none.jsonl holds no record"),
        (("--prompts", "both.jsonl"), "both.jsonl, row 0: give a prompt or messages, not both"),
        (("--prompts", "neither.jsonl"), "neither.jsonl, row 0: give a prompt or messages"),
        (("--prompts", "role.jsonl"), "role.jsonl, row 1: messages.0.role"),
        (("--prompts", "broken.jsonl"), "broken.jsonl, line 1"),
        (("--model", "PLAIN", "--chat", "--prompt", "Hello"), "has no chat template"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_asked_is_refused_with_what_to_do(
    words: tuple[str, ...], said: str, steer: Steer, folder: Path, tmp_path: Path
) -> None:
    files = {
        "none": "", "both": '{"prompt": "a", "messages": []}', "neither": '{"id": 3}', "broken": '{"prompt": ',
        "role": '{"prompt": "a"}\n{"messages": [{"role": "human", "content": "x"}]}',
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / f"{name}.jsonl").write_text(text)
    words = tuple(str(folder / "plain") if word == "PLAIN" else word for word in words)
    code, out, error = steer(*(() if "--model" in words else ("--model", folder / "chat")), *words)
    assert (code, out) == (2, "") and said in error and "Traceback" not in error, error
