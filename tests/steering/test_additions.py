"""Plans of plain additions for other programs: what is written does what the plan does, and everything else is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import steering
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.model.models import load_model
from steering.model.prompts import encode_prompt
from steering.plan.additions import additions, as_plan, export_llama_cpp, export_served
from steering.plan.expression import parse_plan
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.features import Features
from steering.vector.interchange import import_easysteer, import_gguf
from steering.vector.vectors import SteeringVector
from tests.tiny import vector

THINK = Path(steering.__file__).parent / "builtin" / "vectors" / "think-first.safetensors"


def known() -> dict[str, SteeringVector]:
    own = SteeringVector.load(THINK)
    drawn = vector(7, layer=own.site.layer, width=len(own.direction))
    return {"own": own, "other": drawn, "early": vector(8, layer=0, width=len(own.direction))}


def plan(text: str) -> Plan:
    return parse_plan(text, known())


def test_what_is_written_writes_the_engines_tokens(tmp_path: Path) -> None:
    text = "add own 0.75v on prompt | sinks; add other 2 on generated; add early 0.5v on all | sinks; add other -1v on prompt | sinks"
    original = plan(text)
    path = export_served(original, tmp_path / "spec.json", model_hint="llama")
    spec = json.loads(path.read_text())
    assert [(e["source"], e["apply"]) for e in spec["vectors"]] == [
        ("spec.prompt.gguf", {"prompt": "all"}), ("spec.generated.gguf", {"generation": "all"}),
    ]  # fmt: skip
    spans = {"spec.prompt.gguf": "prompt", "spec.generated.gguf": "generated"}
    steps = []
    for entry in spec["vectors"]:
        held = import_gguf(tmp_path / entry["source"], layers="easysteer")
        assert sorted(site.layer for site in held) == entry["layers"]
        span = Span.parse(f"{spans[entry['source']]} | sinks" if "prompt" in entry["source"] else "generated")
        steps += [Intervention("add", one, span, Dose(1.0, "vector"), site) for site, one in held.items()]
    model = load_model("builtin:base")
    prompt = encode_prompt(model, "rules + 15 ; * 9 ; goal 31 start 42 91 9 ?")
    rows = [Row(prompt, made) for made in (original, Plan(tuple(steps)), as_plan(additions(original)), Plan())]
    first, read_back, summed, bare = (g.token_ids for g in generate(model, rows, GenerationSettings(48)))
    assert first == read_back == summed != bare
    assert len(import_easysteer(path)) == sum(len(entry["layers"]) for entry in spec["vectors"])


def test_additions_at_one_layer_are_summed_in_the_units_of_the_plan() -> None:
    own, other = known()["own"], known()["other"]
    found = additions(plan("add own 0.5v on all; add other 3 on generated"))
    assert torch.allclose(found.prompt[own.site], own.direction * 0.5)
    assert torch.allclose(found.generated[own.site], own.direction * 0.5 + other.direction * (3 / other.norm))
    assert found.sinks_differ and not additions(plan("add own 1v on generated")).sinks_differ
    assert not additions(plan("add own 1v on all | sinks")).sinks_differ
    assert found.model == "unknown", "of several vectors whose models are not the same"


def test_one_file_for_what_is_the_same_everywhere(tmp_path: Path) -> None:
    path = export_served(plan("add own 1v on all"), tmp_path / "spec.json", model_hint="llama")
    (entry,) = json.loads(path.read_text())["vectors"]
    assert entry["apply"] == {"prompt": "all", "generation": "all"} and entry["source"] == "spec.all.gguf"
    (read,) = import_easysteer(path)
    assert torch.equal(read.direction, known()["own"].direction)
    whole = export_llama_cpp(
        plan("add own 1v on prompt; add own 1v on generated"), tmp_path / "v.gguf", model_hint="llama"
    )
    (held,) = import_gguf(whole, layers="llama.cpp").values()
    assert torch.equal(held.direction, known()["own"].direction) and held.site == known()["own"].site
    with pytest.raises(BadInput, match="only a plan on `all` can be written for it"):
        export_llama_cpp(plan("add own 1v on generated"), tmp_path / "w.gguf", model_hint="llama")
    assert not (tmp_path / "w.gguf").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ablate own on all", "interventions.0 is 'ablate', which depends on the activation"),
        ("add own 1v on all; clamp own 2 on all", "interventions.1 is 'clamp'"),
        ("add own 1r on all", "dose in 'residual', which depends on the activation"),
        ("add own 1v~decay:16 on generated", "has the schedule decay:16"),
        ("add own 1v on generated when cosine(own) > 0.1", "has a gate"),
        ("add own 1v on last_prompt", "is on `last_prompt`, which only this program can find"),
        ("add own 1v on first_n:8", "is on `first_n:8`"),
        ("add own 1v on prompt | generated", "is on `prompt \\| generated`"),
        ("add own 1v at blocks.1.hook_resid_mid on all", "edits blocks.1.hook_resid_mid"),
        ("add own 1v on all; add own -1v on all", "cancel each other"),
        ("add own 0v on all", "its amounts are 0"),
    ],
)
def test_what_only_this_program_can_do_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        export_served(plan(text), tmp_path / "spec.json", model_hint="llama")
    assert not list(tmp_path.iterdir())


def test_plans_without_additions_and_other_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="A plan without steps"):
        additions(Plan())
    with pytest.raises(BadInput, match="ends in .json"):
        export_served(plan("add own 1v on all"), tmp_path / "spec.yaml", model_hint="llama")
    kept = known()["own"]
    step = Intervention("add", kept, Span("all"), Dose(1.0, "vector"), keep_norm=True)
    with pytest.raises(BadInput, match="keeps the activation's norm"):
        additions(Plan((step,)))
    rows = torch.eye(4, 16)
    latents = Features("sae", kept.site, "relu", rows, torch.zeros(4), rows, (0,), (0,), kept.provenance)
    with pytest.raises(BadInput, match="is 'add of latents'"):
        additions(Plan((Intervention("add", latents, Span("all"), Dose(1.0, "raw")),)))


def test_how_far_an_addition_goes_beyond_its_vectors() -> None:
    assert additions(plan("add own 3v on generated")).times == pytest.approx(3)
    assert additions(plan("add own -1e6v on all; add own 1v on generated")).times == pytest.approx(1e6)
    assert additions(plan("add own 2v on prompt; add own 2v on prompt")).times == pytest.approx(4)
