"""Plans in one line, as YAML and JSON, and their schema."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from steering.compile.explanation import explain
from steering.errors import BadInput
from steering.model.sites import Site, parse_sites
from steering.plan.expression import expression_of, parse_plan
from steering.plan.gate import Gate
from steering.plan.plan import Dose, Intervention, Plan, Schedule, Span
from steering.plan.schema import PLAN_SCHEMA
from tests.tiny import plan, tiny, vector

FULL = (
    'add wait 0.5v~decay:32.0 at blocks.{0,2}.hook_resid_post on at:";" - specials when entropy > 1.25; '
    "ablate doubt on generated; rotate wait 30deg keep-norm at blocks.1.hook_resid_mid on (prompt | first_n:4) & sentence_starts "
    "when cosine(doubt) < 0.1 at blocks.0.hook_resid_pre; scale doubt 1.5f; cap wait 2~linear:1:0:64 on all"
)


def vectors() -> dict[str, object]:
    return {"wait": vector(1, 2), "doubt": vector(2, 2)}


def test_the_one_line_form_says_all_that_a_plan_can_say_and_reads_back() -> None:
    known = vectors()
    text = FULL.replace('at:";" - specials', '(at:";" - specials) & generated')
    made = parse_plan(text, known)  # type: ignore[arg-type]
    assert [i.operation for i in made.interventions] == ["add", "ablate", "rotate", "scale", "cap"]
    assert made.interventions[0].sites == (Site(0), Site(2)) and made.interventions[2].keep_norm
    assert made.interventions[0].dose == Dose(0.5, "vector", Schedule("decay", steps=32))
    again = parse_plan(expression_of(made, {v.digest: n for n, v in known.items()}), known)  # type: ignore[arg-type, attr-defined]
    assert again.digest == made.digest
    assert Plan.from_yaml(made.to_yaml(), made.vectors).digest == made.digest
    assert Plan.from_dict(json.loads(made.to_json()), made.vectors).digest == made.digest


def test_a_vector_file_can_stand_for_its_name(tmp_path: Path) -> None:
    path = vector(3).save(tmp_path / "v.safetensors")
    assert parse_plan(f"add {path} 1v").digest == plan("add", "generated", 1.0, seed=3).digest


def test_the_schema_describes_what_plans_write_and_refuses_the_rest() -> None:
    known = vectors()
    made = parse_plan(FULL.replace('at:";" - specials', "generated"), known)  # type: ignore[arg-type]
    jsonschema.validate(made.to_dict(), PLAN_SCHEMA)
    broken = made.to_dict()
    broken["interventions"][0]["dosage"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, PLAN_SCHEMA)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "plan is empty"),
        ("ad wait 1v", "Did you mean 'add'"),
        ("add wait", "needs a dose"),
        ("add wait 1q", "is not a dose"),
        ("add wait 30deg", "takes a dose in raw or vector or residual, not degrees"),
        ("rotate wait 200deg", "from -180 to 180"),
        ("ablate wait 1v", "takes no dose"),
        ("add nobody 1v", "Unknown vector"),
        ("add wait 1v at", "Nothing follows 'at'"),
        ("add wait 1v at blocks.1.hook_resid_pst", "Did you mean 'resid_post'"),
        ("add wait 1v at blocks.{3-1}.hook_resid_post", "runs backwards"),
        ("add wait 1v on generated on prompt", "stands twice"),
        ("add wait 1v when entropy", "is not a gate"),
        ("add wait 1v when cosine > 1", "needs a vector"),
        ("add wait 1v on all when entropy > 1", "defined for generated tokens only"),
        ("add wait 1v when projection(doubt) > 0 at blocks.2.mlp", "is not a site"),
        ("add wait 1v~linear:1:0", "needs 3 numbers"),
        ('add wait 1v on at:"x', "not closed"),
    ],
)
def test_mistakes_in_the_one_line_form_are_named(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse_plan(text, vectors())  # type: ignore[arg-type]


def test_a_gate_behind_its_edit_is_refused() -> None:
    with pytest.raises(BadInput, match="lies behind the edit"):
        Intervention("ablate", vector(layer=1), Span("all"), gate=Gate("projection", vector=vector(), site=Site(2)))


def test_a_callable_gate_is_stored_by_name() -> None:
    gate = Gate("call", 0.5, function=lambda view: view.hidden.norm(dim=-1), name="norm")
    made = plan(gate=gate)
    assert made.interventions[0].gate is not None and made.interventions[0].gate.slow
    again = Plan.from_dict(made.to_dict(), made.vectors, {"norm": gate.function})  # type: ignore[dict-item]
    assert again.digest == made.digest
    with pytest.raises(BadInput, match="Unknown gate function"):
        Plan.from_dict(made.to_dict(), made.vectors)


def test_layer_sets_and_head_sites() -> None:
    assert parse_sites("blocks.{0,2-3}.hook_mlp_out") == (Site(0, "mlp_out"), Site(2, "mlp_out"), Site(3, "mlp_out"))
    assert Site.parse("blocks.1.attn.hook_z.3") == Site(1, "z", 3) and Site(1, "z", 3).name == "blocks.1.attn.hook_z.3"
    with pytest.raises(BadInput, match="all heads"):
        Site.parse("blocks.1.attn.hook_z")
    with pytest.raises(BadInput, match="twice"):
        parse_sites("blocks.{1,1}.hook_resid_post")


def test_explain_shows_the_tokens_fed_and_what_would_be_edited() -> None:
    model = tiny("llama")
    made = parse_plan(
        'add wait 1v at blocks.1.hook_resid_post on text:"wait"; ablate doubt at blocks.1.hook_resid_post on at:";"',
        vectors(),
    )  # type: ignore[arg-type]
    found = explain(model, made, (1, 20, 7, 21), generated=(5, 22, 5))
    assert [t.text for t in found.tokens] == ["<bos>", "w20", "wait", "w21", ";", "w22", ";"]
    assert [t.interventions for t in found.tokens] == [(), (), (1,), (), (2,), (), (2,)]
    assert found.covered == (2, 4, 6)
    assert found.table().row_count == 7
