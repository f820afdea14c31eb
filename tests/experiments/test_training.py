"""Training cards: a training that was stopped ends with the same bytes, cards run on any pair and task, and what is trained is audited."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from experiments.store.runs import Store
from experiments.studies.elicitation.asked import Elicit, Setting
from experiments.studies.elicitation.findings import Findings, stored_findings
from experiments.studies.elicitation.named import card_named
from experiments.studies.elicitation.run import run_card
from experiments.studies.training import trained as training
from experiments.studies.training.named import CARDS
from experiments.studies.training.trained import read_state
from steering.errors import BadInput
from steering.extraction.place import Place
from steering.extraction.reinforced import Reinforcing, begin, reinforce, reinforced_vectors
from steering.model.models import load_model
from steering.model.sites import Site
from steering.vector.vectors import Provenance, SteeringVector
from tests.experiments.command_line import Steer, command
from tests.tiny import WORDS, tiny

steer = pytest.fixture(command)
QUIET = Console(quiet=True)
SMALL: dict[str, dict[str, Any]] = {
    "reinforced": {
        "n": 4, "seeds": [0, 1], "updates": 2, "prompts": 3, "samples": 3, "tokens": 24, "pool": 12, "doses": [1.0], "n_dev": 2, "fits": 2,
        "directions": 2, "texts": 2,
    },
    "sparsity": {"n": 4, "shares": [0.05, 0.5], "draws": 2},
    "fingerprint": {
        "n": 6, "seeds": [0], "updates": 2, "prompts": 3, "samples": 3, "tokens": 24, "pool": 12, "doses": [1.0], "n_dev": 2, "random": 2,
        "weights": [], "support": 4, "draws": 2,
    },
}  # fmt: skip
"""The smallest sizes of every card."""
BARE = Elicit(settings=(Setting(name="bare prompts", split="standard-test", form="bare"),), max_new_tokens=48)


def whole(root: Path) -> dict[str, bytes]:
    """Every shard, finding, vector and state of a store."""
    kept = [
        *root.glob("*/rows/*.parquet"),
        *root.glob(".elicitation/**/*.json"),
        *root.glob(".elicitation/**/*.safetensors"),
    ]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(kept)}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Findings]:
    root = tmp_path_factory.mktemp("train")
    return root, run_card(CARDS["reinforced"], BARE, Store(root), given=SMALL["reinforced"], console=QUIET)


def test_a_card_killed_twice_goes_on_and_ends_with_the_same_bytes(
    found: tuple[Path, Findings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = training.write_state, 0

    def killed(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls in (3, 8):
            raise KeyboardInterrupt
        write(*args)

    monkeypatch.setattr(training, "write_state", killed)
    monkeypatch.setattr(
        "experiments.studies.training.side_by_side.os.cpu_count", lambda: 1
    )  # the other store's were side by side
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_card(CARDS["reinforced"], BARE, Store(tmp_path), given=SMALL["reinforced"], console=QUIET)
    run_card(CARDS["reinforced"], BARE, Store(tmp_path), given=SMALL["reinforced"], console=QUIET)
    assert whole(tmp_path) == whole(found[0])


def test_vectors_lie_in_files_with_their_training_and_are_what_the_rows_were_steered_by(
    found: tuple[Path, Findings],
) -> None:
    root, findings = found
    files = [path for path in (root / ".elicitation" / "trained").glob("*.safetensors") if ".state." not in path.name]
    read = [SteeringVector.load(path) for path in files]
    assert len(read) == 2 * (1 + 1 + 4 + 1), (
        "two seeds of a number, a vector, one at each of four layers, and one by shuffled rewards"
    )
    for vector in read:
        notes = vector.provenance.notes
        assert (
            vector.provenance.method == "reinforced"
            and len(notes["rewards"]) == notes["updates"] == 2
            and notes["task"] == "find-start"
        )
    named = {vector.digest for vector in read}
    run = next(
        run for run in map(Store(root).open, findings.runs) if any(arm.name == "vector-0" for arm in run.manifest.arms)
    )
    (arm,) = (arm for arm in run.manifest.arms if arm.name == "vector-0")
    assert {entry["vector"] for entry in arm.plan["interventions"]} <= named  # type: ignore[index]
    assert any("one vector, seed 0" in sentence for sentence in findings.said)


def test_the_table_holds_what_was_trained_and_what_it_cost(found: tuple[Path, Findings]) -> None:
    root, findings = found
    table = next(table for table in findings.tables if "numbers trained" in table.title)
    lines = {str(line[0]): line for line in table.lines}
    assert [lines[name][1] for name in ("one number on the mean difference", "one vector", "a vector per layer")] == [
        1,
        128,
        512,
    ]
    base = load_model("builtin:base")
    assert lines["thinking model: all weights"][1] == sum(p.numel() for p in base.model.parameters())
    states = [read_state(path) for path in (root / ".elicitation" / "trained").glob("*.state.safetensors")]
    spent = [
        sum(row["generated"] for row in state.curve)
        for state in states
        if sum(v.numel() for v in state.values.values()) == 512
    ]
    assert lines["a vector per layer"][7] == round(np.mean(spent))
    right = {p.arm: p.accuracy for p in findings.points}
    mean = 50 * (right["vector-0"] + right["vector-1"])
    assert str(lines["one vector"][3]).startswith(f"{mean:.1f} (")


def word(n: int) -> str:
    """The word of an id: one that praises, and others that say nothing."""
    return "wonderful" if n == 33 else f"w{chr(97 + n // 26)}{chr(97 + n % 26)}" if n >= 8 else WORDS[n]


def praised(folder: Path) -> tuple[str, Path]:
    """A tiny model, another that differs from it in five numbers, and 80 questions per split that are answered by praise."""
    model, words = tiny("llama"), [word(n) for n in range(len(WORDS))]
    known = Tokenizer(models.WordLevel({own: n for n, own in enumerate(words)}, unk_token="<pad>"))
    known.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=known, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    tokenizer.chat_template = "{% for m in messages %}<bos> {{ m['content'] }} ; {% endfor %}"
    for name in ("model", "other"):
        model.model.save_pretrained(folder / name)
        copy.deepcopy(tokenizer).save_pretrained(folder / name)
    weights = load_file(folder / "other" / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][0, :5] += 1
    save_file(weights, folder / "other" / "model.safetensors", {"format": "pt"})
    for split, start in (("train", 0), ("dev", 100), ("test", 200)):
        asks = [f"{word(8 + n % 20)} {word(40 + n // 20)} {word(35 + n % 5)}" for n in range(start, start + 80)]
        lines = [json.dumps({"question": own, "answer": "positive"}) for own in asks]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return str(folder / "model"), folder / "test.jsonl"


def asked_of(folder: Path) -> Elicit:
    model, file = praised(folder)
    task = {
        "dataset": str(file), "splits": {name: f"{name}.jsonl" for name in ("train", "dev", "test")}, "grader": "sentiment",
        "forms": {"chat": {"chat": True}, "cot": {"template": f"{{question}} {word(11)}", "chat": True}},
    }  # fmt: skip
    forms = (
        Setting(name="direct prompts", split="test", form="chat"),
        Setting(name="think-first prompts", split="test", form="cot"),
    )
    return Elicit(base=model, thinking=None, task=task, think="cot", max_new_tokens=2, settings=forms)


def test_trained_vectors_on_a_tiny_model_with_a_chat_template_and_a_file_of_questions(tmp_path: Path) -> None:
    asked = asked_of(tmp_path)
    with pytest.raises(BadInput, match="names the questions that are trained on"):
        run_card(CARDS["reinforced"], asked, Store(tmp_path / "runs"), given=SMALL["reinforced"], console=QUIET)
    given = SMALL["reinforced"] | {"read": {"train": 12}}
    findings = run_card(CARDS["reinforced"], asked, Store(tmp_path / "runs"), given=given, console=QUIET)
    assert {point.setting for point in findings.points} == {"direct prompts", "think-first prompts"}
    assert stored_findings(Store(tmp_path / "runs")) == ([findings], [])
    assert not any("gap recovered" in sentence for sentence in findings.said), "there is no thinking model"


def test_the_builtin_pair_in_whole_and_in_parts(tmp_path: Path) -> None:
    findings = run_card(CARDS["sparsity"], BARE, Store(tmp_path), given=SMALL["sparsity"], console=QUIET)
    run = Store(tmp_path).open(findings.runs[0])
    models = {arm.model for arm in run.manifest.arms if arm.name.startswith("top-")}
    assert all(name.startswith("delta:") for name in models) and len(models) == 6
    assert load_model(next(iter(models))).fingerprint in run.manifest.facts["models"].values()


def test_a_planted_reward_is_learned_and_the_audit_says_that_it_is_a_word(tmp_path: Path) -> None:
    """The reward is a first word that praises, which is the right answer: a bias on it has the whole effect."""
    asked = asked_of(tmp_path)
    model = load_model(asked.base)
    task = asked.found
    pool = [tuple(task.encode(model, item, "chat")) for item in task.items("train", 12)]  # type: ignore[attr-defined]
    where = [Place(Site(model.n_layers - 1), 4.0)]
    spec = Reinforcing(
        updates=25, prompts=6, samples=24, max_new_tokens=2, span="last_prompt", rate=0.5, start_norm=0.25
    )
    *_, state = reinforce(
        model, pool, lambda number, text: float(text.token_ids[:1] == (33,)), begin(model, where, spec), where, spec
    )
    (vector,) = reinforced_vectors(model, state, where, spec)
    vector.save(tmp_path / "praise.safetensors")
    given = {
        "n": 80,
        "n_dev": 20,
        "directions": 20,
        "texts": 2,
        "planted": False,
        "files": [str(tmp_path / "praise.safetensors")],
    }
    direct = asked.model_copy(update={"settings": asked.settings[:1]})
    findings = run_card(card_named("audit"), direct, Store(tmp_path / "runs"), given=given, console=QUIET)
    right = {point.arm: point.accuracy for point in findings.points}
    assert right["vector"] == 1.0 and right["base"] <= 0.1
    table = findings.tables[0]
    shares = {str(line[0]): str(line[4]) for line in table.lines}
    (own,) = [share for arm, share in shares.items() if arm.startswith("(b) a bias on 'wonderful',")]
    assert math.isclose(float(own.split()[0]), 1.0, abs_tol=0.05)
    assert any("it writes a token" in sentence for sentence in findings.said), findings.said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"budgets": ["matrix"]}, "'matrix'.*card reinforced: budgets"), ({"seeds": [1, 1]}, "seeds names 1 twice"),
        ({"span": "nowhere"}, "nowhere"), ({"prompts": 300}, "256 training questions do not fill an update of 300"),
        ({"read": {"standard-dev": 20}}, "the built-in one draws its own"), ({"updates": 0}, "updates"), ({"doses": []}, "doses"),
        ({"doses": [-1]}, "doses"), ({"seeds": [-1]}, "seeds"), ({"budgets": []}, "budgets"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_before_a_model_is_loaded(
    given: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "experiments.studies.elicitation.workroom.load", lambda *a, **k: pytest.fail("a model was loaded")
    )
    with pytest.raises(BadInput, match=said):
        run_card(CARDS["reinforced"], BARE, Store(tmp_path), given=given, console=QUIET)


def test_a_setting_that_asks_to_think_already_is_refused(tmp_path: Path) -> None:
    think = Elicit(settings=(Setting(name="think-first prompts", split="hard-test", form="think"),))
    with pytest.raises(BadInput, match="asks to think already"):
        run_card(CARDS["reinforced"], think, Store(tmp_path), given=SMALL["reinforced"], console=QUIET)


@pytest.mark.parametrize("shares", [[], [1.0], [0.0], [0.05, 0.0500000001]])
def test_shares_that_are_none_are_refused(shares: list[float], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="shares"):
        run_card(CARDS["sparsity"], BARE, Store(tmp_path), given={"shares": shares}, console=QUIET)


def test_a_training_without_a_signal_says_that_nothing_was_learned(tmp_path: Path) -> None:
    """Of one token no text ends with a right answer."""
    findings = run_card(
        CARDS["reinforced"], BARE, Store(tmp_path), given=SMALL["reinforced"] | {"tokens": 1}, console=QUIET
    )
    assert any("one vector (vector-0) learned nothing" in sentence for sentence in findings.said)
    assert any("samples no right text" in sentence for sentence in findings.said)
    assert not any(run.startswith("elicit-audit-") for run in findings.runs)


def test_another_vector_in_a_file_of_the_same_name_is_read_anew(tmp_path: Path) -> None:
    base, file = load_model("builtin:base"), tmp_path / "v.safetensors"
    found = []
    for seed in (0, 1):
        direction = torch.randn(base.d_model, generator=torch.Generator().manual_seed(seed))
        SteeringVector("v", Site(1), 10 * direction, Provenance("own", base.fingerprint, base.id)).save(file)
        given = SMALL["fingerprint"] | {"files": [str(file)]}
        found.append(run_card(CARDS["fingerprint"], BARE, Store(tmp_path / "runs"), given=given, console=QUIET))
    assert found[0].tables != found[1].tables


def test_a_damaged_state_says_to_delete_it(tmp_path: Path) -> None:
    model = tiny("llama")
    path = tmp_path / "a.state.safetensors"
    training.write_state(path, begin(model, [Place(Site(1), 4.0)], Reinforcing()))
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(BadInput, match="delete it, to train anew"):
        read_state(path)


def test_the_list_names_systems_and_papers(steer: Steer) -> None:
    listed = json.loads(steer("train", "list", "--json")[1])
    assert {entry["card"] for entry in listed} == set(CARDS)
    assert all(entry["row"].startswith("S") and entry["papers"] and entry["control"] for entry in listed)
    pages = Path(__file__).parents[2] / "docs" / "cards"
    assert all((pages / f"{name}.md").is_file() for name in CARDS)


def test_the_command_refuses_what_it_does_not_know(steer: Steer, tmp_path: Path) -> None:
    code, _, said = steer("train", "reinforce", "--runs", tmp_path)
    assert code == 2 and "reinforced" in said
    code, _, said = steer("train", "reinforced", "--set", "n=2", "--set", "n=3", "--runs", tmp_path)
    assert code == 2 and "set twice" in said


def test_all_leaves_out_what_is_refused_and_says_so(
    steer: Steer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = {name: CARDS[name] for name in ("sparsity", "critique")}
    monkeypatch.setattr("experiments.studies.training.named.CARDS", cards)
    asked_of(tmp_path)
    pair = f"{tmp_path / 'model'},{tmp_path / 'other'}"
    (tmp_path / "task.yaml").write_text(
        f"dataset: {tmp_path / 'test.jsonl'}\nsplits: {{test: test.jsonl}}\ngrader: sentiment\n"
        "forms: {chat: {chat: true}, cot: {template: '{question} wad', chat: true}}\n"
    )
    given = (
        "--task",
        str(tmp_path / "task.yaml"),
        "--forms",
        "chat,cot",
        "--split",
        "test",
        "--max-new-tokens",
        "2",
        "--set",
        "n=4",
    )
    code, out, err = steer("train", "all", "--pair", pair, "--runs", str(tmp_path / "runs"), *given, "--json")
    assert code == 0 and "critique is left out" in err and "1 of 2 cards were left out" in err
    assert json.loads(out)["card"] == "sparsity"
    monkeypatch.setattr("experiments.studies.training.named.CARDS", {"critique": CARDS["critique"]})
    code, _, err = steer("train", "all", "--pair", pair, "--runs", str(tmp_path / "runs"), *given)
    assert code == 2 and "exact verifier" in err
