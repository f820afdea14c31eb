"""Plans through a hub on this machine: whole, checked, and by name wherever a plan can stand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.model.models import load_model
from steering.model.prompts import encode_prompt
from steering.plan.exchange import plan_files, pull_plan, pull_plan_copy, push_plan
from steering.plan.expression import parse_plan
from steering.plan.plan import Gate, Intervention, Plan, Span
from steering.plan.source import read_plan, vector_files
from steering.vector.hub.evidence import Effect, Evidence
from steering.vector.hub.upload import Replacing
from steering.vector.vectors import SteeringVector
from tests.fake_hub import FakeHub, front_matter
from tests.steering.test_hub import COMMIT, NAME, THINK, hub, pushed
from tests.tiny import vector

__all__ = ["hub"]
PLAN = "me/plan"
LINE = "add own 0.75v on last_prompt; ablate other on first_n:8; add other 0.5v on generated when cosine(own) > 0.1"
EFFECT = Effect(split="test", arm="steered", n=40, accuracy=0.5, low=0.35, high=0.65)


def two_vectors() -> dict[str, SteeringVector]:
    """The shipped vector and a random one at its site, of the same model."""
    own = SteeringVector.load(THINK)
    drawn = vector(7, layer=own.site.layer, width=len(own.direction), kind=own.site.kind)
    return {"own": own, "other": replace(drawn, name="other", provenance=own.provenance)}


def a_plan() -> Plan:
    return parse_plan(LINE, two_vectors())


def put_plan(name: str = PLAN, of: Plan | None = None, **given: Any) -> str:
    return push_plan(a_plan() if of is None else of, name, **({"base_commit": COMMIT} | given)).commit


def test_a_plan_comes_back_with_its_vectors_and_writes_the_same_tokens(hub: FakeHub) -> None:
    own = a_plan()
    commit = put_plan(evidence=Evidence(effects=(EFFECT,)), licence="mit")
    held = hub.files(PLAN)
    assert {f"vectors/{digest}.safetensors" for digest in own.vectors} < set(held) and len(own.vectors) == 2
    back = pull_plan(PLAN)
    assert pull_plan(f"{PLAN}@{commit}").digest == own.digest and (back.digest, back.to_dict()) == (
        own.digest,
        own.to_dict(),
    )
    copy = pull_plan_copy(PLAN)
    assert (copy.commit, copy.config.kind, copy.config.base_model.commit) == (commit, "plan", COMMIT)
    assert copy.evidence().effects == (EFFECT,) and copy.evidence().vector == own.digest
    assert read_plan(f"hub:{PLAN}@{commit}").digest == own.digest
    assert read_plan(str(copy.folder / "plan.yaml")).digest == own.digest, "the file alone, with the vectors beside it"

    model = load_model("builtin:base")
    prompt = encode_prompt(model, "rules + 15 ; * 9 ; goal 31 start 42 91 9 ?")
    rows = [Row(prompt, plan) for plan in (own, back, Plan())]
    steered, through_hub, bare = (g.token_ids for g in generate(model, rows, GenerationSettings(48)))
    assert steered == through_hub != bare


def test_offline_the_cache_answers(hub: FakeHub) -> None:
    with pytest.raises(BadInput, match="is not in the cache"):
        pull_plan(PLAN, offline=True)
    put_plan()
    pull_plan(PLAN)
    asked = len(hub.asked)
    assert pull_plan(PLAN, offline=True).digest == a_plan().digest and len(hub.asked) == asked


def test_the_card_says_what_the_plan_is(hub: FakeHub) -> None:
    put_plan(title="Think *first*", licence="mit", arxiv=("2506.18167",))
    card = hub.files(PLAN)["README.md"].decode()
    facts = front_matter(card.encode())
    assert facts["tags"] == ["steering-plan", "activation-steering", "arxiv:2506.18167"] and facts["license"] == "mit"
    assert "# Think \\*first\\*" in card and "No evidence is attached: that it does anything is not shown" in card
    assert f"--plan hub:{PLAN}" in card and "operation: ablate" in card and "* **Steps**: 3" in card
    put_plan(evidence=Evidence(effects=(EFFECT,)))
    card = hub.files(PLAN)["README.md"].decode()
    assert "50.0 (35.0 to 65.0)" in card and "stands beside no random direction" in card
    assert "Nobody has asked whether the plan is more than a word" in card


def test_a_later_push_leaves_no_vector_of_the_earlier_plan(hub: FakeHub) -> None:
    first = put_plan()
    one = parse_plan("add own 1v on generated", two_vectors())
    put_plan(of=one)
    named = {name for name in hub.files(PLAN) if name.startswith("vectors/")}
    assert named == {f"vectors/{digest}.safetensors" for digest in one.vectors}
    assert pull_plan(PLAN).digest == one.digest and pull_plan(PLAN, first).digest == a_plan().digest


def test_a_vectors_repository_names_its_plan(hub: FakeHub) -> None:
    own = SteeringVector.load(THINK)
    commit = pushed(hub)
    assert read_plan(f"hub:{NAME}@{commit}").digest == parse_plan("add own 1v on generated", {"own": own}).digest
    with pytest.raises(BadInput, match="config.json of me/think at .* is not that of a plan: format .* is a vector's"):
        pull_plan(NAME)
    put_plan()
    with pytest.raises(BadInput, match="holds a plan, no steering vector; `steer plan pull` fetches it"):
        SteeringVector.load(f"hub:{PLAN}")
    with pytest.raises(
        BadInput, match=r"holds other files than a plan's \(evidence.json, plan.yaml, vector.safe|holds other files"
    ):
        put_plan(NAME)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "plan.yaml",
            lambda data: data + b"#",
            "plan.yaml of me/plan at .* is not the file that its config.json names",
        ),
        ("evidence.json", lambda data: data[:-9], "evidence.json of .* is not the file"),
        ("config.json", lambda data: data[:-9], "is not JSON"),
        ("config.json", {"version": 2}, "is of version 2 of the format"),
        (
            "config.json",
            {"kind": "probe"},
            "holds a probe, not a plan: `steer probe pull` fetches it, and hub:me/plan names it",
        ),
        ("config.json", {"kind": "sae"}, "is not that of a plan: format .* kind 'sae'"),
        ("config.json", {"files": {"../../x": "0"}}, r"names '../../x', which is no file of such a repository"),
        ("config.json", {"files": {"vectors/../x": "0"}}, "which is no file of such a repository"),
        (
            "config.json",
            {"files": {"vectors/gone.safetensors": "0"}},
            "lacks vectors/gone.safetensors, which its config",
        ),
        ("config.json", {"files": {}}, "names no plan.yaml"),
        ("config.json", {"digest": "0" * 16}, "is plan .*; its config.json says 0000"),
        ("config.json", {"digest": "0"}, "digest: String should match"),
    ],
)
def test_what_is_not_as_described_is_refused(hub: FakeHub, name: str, change: Any, message: str) -> None:
    put_plan()
    data = hub.files(PLAN)[name]
    if isinstance(change, dict):
        data = json.dumps(json.loads(data) | change).encode()
    else:
        data = change(data)
    hub.put(PLAN, {name: data})
    with pytest.raises(BadInput, match=message):
        pull_plan(PLAN)


def test_another_vector_in_the_place_of_one_is_found_out(hub: FakeHub, tmp_path: Path) -> None:
    put_plan()
    config = json.loads(hub.files(PLAN)["config.json"])
    name = next(name for name in config["files"] if name.startswith("vectors/"))
    other = replace(SteeringVector.load(THINK), direction=SteeringVector.load(THINK).direction * 2)
    data = other.save(tmp_path / "other.safetensors").read_bytes()
    import hashlib

    config["files"][name] = hashlib.sha256(data).hexdigest()
    hub.put(PLAN, {name: data, "config.json": json.dumps(config).encode()})
    with pytest.raises(BadInput, match="another vector in its place"):
        pull_plan(PLAN)


def test_vectors_that_changed_places_are_found_out(hub: FakeHub) -> None:
    """In memory vectors are known by their digest; in a folder by their file's name."""
    put_plan()
    held = hub.files(PLAN)
    config = json.loads(held["config.json"])
    one, other = (name for name in config["files"] if name.startswith("vectors/"))
    config["files"][one], config["files"][other] = config["files"][other], config["files"][one]
    hub.put(PLAN, {one: held[other], other: held[one], "config.json": json.dumps(config).encode()})
    with pytest.raises(BadInput, match="holds vector .*: another vector in its place"):
        pull_plan(PLAN)


@pytest.mark.parametrize("change", [{"sites": ["blocks.9.hook_resid_post"]}, {"base_model": {"id": "me/other"}}])
def test_what_the_configuration_says_of_the_plan_is_compared_with_it(hub: FakeHub, change: dict[str, Any]) -> None:
    put_plan()
    config = json.loads(hub.files(PLAN)["config.json"])
    if "base_model" in change:
        change = {"base_model": config["base_model"] | change["base_model"]}
    hub.put(PLAN, {"config.json": json.dumps(config | change).encode()})
    with pytest.raises(BadInput, match="says base model .* and sites .*; the plan is of builtin:base and edits"):
        pull_plan(PLAN)


def test_a_push_that_fails_leaves_nothing(hub: FakeHub) -> None:
    with pytest.raises(BadInput, match="Invalid metadata in README.md"):
        put_plan(licence="wrong-one")
    assert PLAN not in hub.repositories
    put_plan()
    with pytest.raises(BadInput, match="Invalid metadata in README.md"):
        put_plan(licence="wrong-one")
    assert pull_plan(PLAN).digest == a_plan().digest, "what was there before stays"


def test_a_push_that_breaks_on_the_way_deletes_nothing(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub may have taken it."""
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    def fails(error: Exception) -> None:
        def create_commit(*given: Any, **named: Any) -> None:
            raise error

        monkeypatch.setattr(HfApi, "create_commit", create_commit)
        with pytest.raises(BadInput, match="the wire was cut|answers 503"):
            put_plan()
        assert PLAN in hub.repositories
        hub.repositories.clear()

    fails(ConnectionError("the wire was cut"))
    fails(HfHubHTTPError("busy", response=httpx2.Response(503, request=httpx2.Request("POST", hub.url))))


def test_large_files_go_through_large_file_storage(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    hub.large = (".safetensors",)
    put_plan()
    assert len(hub.stored) == 2 and ("POST", f"/{PLAN}.git/info/lfs/objects/batch") in hub.asked
    assert pull_plan(PLAN).digest == a_plan().digest
    pushed(hub)
    assert len(hub.stored) == 2, "its vector is one of the plan's, and lies there"
    assert SteeringVector.load(f"hub:{NAME}").digest == SteeringVector.load(THINK).digest


def test_what_no_plans_repository_can_hold_is_refused(hub: FakeHub) -> None:
    with pytest.raises(BadInput, match="A plan without steps edits nothing"):
        put_plan(of=Plan())
    own = two_vectors()["own"]
    gate = Gate("call", 0.5, function=lambda view: view.hidden[..., 0], name="mine")
    with pytest.raises(BadInput, match="The gate 'mine' calls a function of Python"):
        put_plan(of=Plan((Intervention("ablate", own, Span.parse("generated"), gate=gate),)))
    foreign = replace(
        own, direction=own.direction * 3, provenance=replace(own.provenance, model="0" * 16, model_id="me/other")
    )
    with pytest.raises(BadInput, match="vectors are of several models"):
        put_plan(of=parse_plan("add a 1v on all; add b 1v on all", {"a": own, "b": foreign}))
    with pytest.raises(BadInput, match="The commit of the base model .* is not known"):
        push_plan(a_plan(), PLAN)
    with pytest.raises(BadInput, match="evidence is of plan 0000"):
        put_plan(evidence=Evidence(vector="0" * 16, effects=(EFFECT,)))
    assert not hub.repositories
    forced = yaml.safe_load(plan_files(a_plan(), PLAN, force=True)["plan.yaml"])
    assert len(forced["interventions"]) == 3


def test_a_title_that_goes_is_said_and_a_plan_of_nothing_is_not_pushed(hub: FakeHub) -> None:
    push_plan(a_plan(), PLAN, title="A careful one", base_commit=COMMIT)
    with pytest.warns(Replacing, match="me/plan held the title 'A careful one' of this plan"):
        push_plan(a_plan(), PLAN, base_commit=COMMIT)
    own = SteeringVector.load(THINK)
    with pytest.raises(BadInput, match="The plan adds nothing: its amounts are 0"):
        push_plan(parse_plan("add own 0v on all; add own 0 on generated", {"own": own}), PLAN, base_commit=COMMIT)


def test_the_files_that_a_plan_names_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"")
    line = "add a.safetensors 1v on all when cosine(b.safetensors) > 0; add hub:me/x 1v"
    assert vector_files(line, tmp_path) == [tmp_path / "a.safetensors", Path("b.safetensors")]
    (tmp_path / "p.yaml").write_text("interventions: [{operation: add, vector: a.safetensors, span: all, dose: 1v}]")
    assert vector_files(str(tmp_path / "p.yaml")) == [tmp_path / "a.safetensors"] and vector_files("hub:me/plan") == []
