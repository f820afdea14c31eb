"""Vectors through a hub on this machine: what is pushed comes back, at one commit, by name wherever a file can stand, offline too."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import steering
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.model.models import load_model
from steering.model.prompts import encode_prompt
from steering.plan.expression import parse_plan
from steering.plan.source import read_plan
from steering.vector.exchange import pull_copy, pull_vector, push_vector, repository_files
from steering.vector.features import load_stored
from steering.vector.hub.contents import FILES
from steering.vector.hub.evidence import Evidence
from steering.vector.hub.listing import listed_vectors
from steering.vector.hub.session import Session
from steering.vector.hub.upload import Former, Replacing
from steering.vector.vectors import SteeringVector
from tests.fake_hub import FakeHub, fake_hub
from tests.steering.test_hub_card import EFFECT
from tests.tiny import vector

COMMIT = "0123456789abcdef0123456789abcdef01234567"
THINK = Path(steering.__file__).parent / "builtin" / "vectors" / "think-first.safetensors"
NAME = "me/think"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub that the environment names, with an empty cache, and nobody logged in."""
    with fake_hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "none"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
        yield running


def pushed(hub: FakeHub, name: str = NAME, of: SteeringVector | None = None, **given: Any) -> str:
    """The commit of a vector's push."""
    return push_vector(of or SteeringVector.load(THINK), name, **({"base_commit": COMMIT} | given)).commit


def refused(*given: Any, **named: Any) -> str:
    with pytest.raises(BadInput) as caught:
        pull_vector(*given or (NAME,), **named)
    return str(caught.value)


def test_what_is_pushed_comes_back_and_writes_the_same_tokens(hub: FakeHub) -> None:
    own = SteeringVector.load(THINK)
    commit = pushed(hub)
    assert set(hub.files(NAME)) == {".gitattributes", *FILES}
    back = pull_vector(NAME)
    assert (back.digest, back.name, back.site, back.provenance) == (own.digest, own.name, own.site, own.provenance)
    assert torch.equal(back.direction, own.direction)
    copy = pull_copy(NAME)
    assert copy.commit == commit and copy.config.base_model.commit == COMMIT
    assert copy.config.base_model.fingerprint == own.provenance.model and copy.evidence().empty

    model = load_model("builtin:base")
    prompt = encode_prompt(model, "rules + 15 ; * 9 ; goal 31 start 42 91 9 ?")
    plans = [
        parse_plan("add own 1v on last_prompt", {"own": own}),
        parse_plan(f"add hub:{NAME}@{commit} 1v on last_prompt"),
        parse_plan("add hub:me/think 0v on last_prompt"),
    ]
    rows = [Row(prompt, plan) for plan in plans]
    steered, through_hub, bare = (g.token_ids for g in generate(model, rows, GenerationSettings(48)))
    assert steered == through_hub != bare


def test_a_push_is_one_commit_and_makes_what_is_not_there(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed(hub)
    asked = [path for method, path in hub.asked if method == "POST"]
    assert asked.count(f"/api/models/{NAME}/commit/main") == 1 and asked[0] == "/api/repos/create"
    first = hub.repositories[NAME].branches["main"]
    evidence = Evidence(word_audit=("It is more than a word.",))
    second = pushed(hub, evidence=evidence)
    assert second != first and pull_copy(NAME).evidence().word_audit == evidence.word_audit
    assert pull_copy(NAME, first).evidence().empty
    pushed(hub)
    assert pull_copy(NAME).evidence().empty, "evidence of an earlier push is not kept"
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    pushed(hub, "me/secret", private=True)
    assert hub.repositories["me/secret"].private and not hub.repositories[NAME].private


def test_what_a_push_replaces_is_said(hub: FakeHub) -> None:
    first, other = pushed(hub), vector(layer=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = push_vector(SteeringVector.load(THINK), NAME, base_commit=COMMIT, licence="mit")
        assert same.replaced is None, "the same vector, described anew"
        assert push_vector(other, "me/new", force=True).replaced is None
    own = SteeringVector.load(THINK).digest
    with pytest.warns(
        Replacing, match=f"me/think held vector {own}, which this push replaced.* as me/think@{same.commit}"
    ):
        done = push_vector(other, NAME, force=True)
    lost = ("the licence mit", f"the base model's commit {COMMIT}")
    assert done.replaced == Former(own, same.commit, facts=lost) and first != same.commit
    assert pull_vector(NAME).digest == other.digest and pull_vector(NAME, done.replaced.commit).digest == own
    for wrong in (b"not json", b"{}", b'{"file": 3}'):
        hub.put(NAME, {"config.json": wrong})
        with pytest.warns(Replacing, match="me/think held vector unknown"):
            push_vector(other, NAME, force=True)


def test_evidence_that_goes_is_said_and_a_push_that_changes_nothing_too(hub: FakeHub) -> None:
    own = SteeringVector.load(THINK)
    evidence = Evidence(effects=(EFFECT, EFFECT))
    held = push_vector(own, NAME, base_commit=COMMIT, evidence=evidence)
    assert held.changed and held.replaced is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = push_vector(own, NAME, base_commit=COMMIT, evidence=evidence)
    assert not again.changed and again.replaced is None
    with pytest.warns(Replacing, match="me/think held 2 measured effects of this vector, and this push brings none"):
        bare = push_vector(own, NAME, base_commit=COMMIT)
    assert bare.changed and bare.replaced == Former(own.digest, held.commit, same=True, effects=2)
    push_vector(own, NAME, base_commit=COMMIT, evidence=evidence)
    with pytest.warns(
        Replacing,
        match=r"me/think held vector .* still there as me/think@[0-9a-f]{40}, with 2 measured effects and the base",
    ):
        push_vector(vector(layer=2), NAME, force=True)


def test_a_commit_is_not_written_to(hub: FakeHub) -> None:
    first = pushed(hub)
    before = dict(hub.repositories[NAME].branches)
    with pytest.raises(BadInput, match=f"{NAME}@{first} names a commit, which no push can change"):
        pushed(hub, f"{NAME}@{first}")
    assert hub.repositories[NAME].branches == before


def test_a_repository_of_other_files_is_left_alone(hub: FakeHub) -> None:
    hub.put("me/model", {"model.safetensors": b"weights", "config.json": b"{}"})
    before = hub.repositories["me/model"].branches["main"]
    with pytest.raises(
        BadInput, match=r"me/model .* holds other files than a vector's \(model\.safetensors\): push to"
    ):
        pushed(hub, "me/model")
    assert hub.repositories["me/model"].branches["main"] == before


def test_the_plan_beside_a_vector_is_read_as_a_plan(hub: FakeHub) -> None:
    own = SteeringVector.load(THINK)
    pushed(hub)
    plan = read_plan(str(pull_copy(NAME).folder / "plan.yaml"))
    assert list(plan.vectors) == [own.digest] and str(plan.interventions[0].span) == "generated"
    measured = parse_plan("add own 0.5v on last_prompt when projection(own) < 3", {"own": own}).to_dict()
    pushed(hub, plan=measured)
    again = read_plan(str(pull_copy(NAME).folder / "plan.yaml"))
    assert again.to_dict() == measured
    other = parse_plan("add other 1v on generated", {"other": vector()}).to_dict()
    with pytest.raises(BadInput, match=f"interventions.0 of the plan uses {vector().digest}, which is not in the repo"):
        pushed(hub, plan=other)
    with pytest.raises(BadInput, match="no mapping with a list of interventions"):
        pushed(hub, plan={"steps": []})


def test_names_stand_where_files_do(hub: FakeHub, tmp_path: Path) -> None:
    own = SteeringVector.load(THINK)
    commit = pushed(hub)
    hub.put(NAME, {"vector.safetensors": b"broken since"})
    for name in (f"hub:{NAME}@{commit}", Path(f"hub:{NAME}@{commit}")):
        assert SteeringVector.load(name).digest == own.digest == load_stored(name).digest
    for given in (
        {"interventions": [{"operation": "add", "vector": f"hub:{NAME}@{commit}", "span": "generated", "dose": "1v"}]},
        f'add "hub:{NAME}@{commit}" 1v; ablate hub:{NAME}@{commit}',
    ):
        assert list(read_plan(given).vectors) == [own.digest]
    with pytest.raises(BadInput, match="interventions.0.vector: vector.safetensors of me/think at .* is not the file"):
        read_plan({"interventions": [{"operation": "add", "vector": f"hub:{NAME}", "span": "all", "dose": "1v"}]})


def test_a_repository_that_changes_meanwhile_is_read_at_one_commit(hub: FakeHub) -> None:
    commit = pushed(hub)
    files = repository_files(vector(layer=2), NAME, force=True)
    hub.after_listing = lambda: None if hub.put(NAME, files) else None
    copy = pull_copy(NAME)
    assert copy.commit == commit != hub.repositories[NAME].branches["main"]
    assert copy.config.site == "blocks.3.hook_resid_post"
    fetched = [path for _, path in hub.asked if "/resolve/" in path]
    assert fetched and all(f"/resolve/{commit}/" in path for path in fetched)
    assert pull_vector(NAME).digest == vector(layer=2).digest, "the next pull is of the new state"


def test_offline_the_cache_answers_or_nobody_does(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own, commit = SteeringVector.load(THINK), pushed(hub)
    assert "me/think is not in the cache" in refused(offline=True)
    pull_vector(NAME)
    hub.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert pull_vector(NAME).digest == own.digest == pull_vector(NAME, commit).digest
    assert SteeringVector.load(f"hub:{NAME}").digest == own.digest and not hub.asked
    message = refused("me/other")
    assert message.startswith("me/other is not in the cache") and "switch HF_HUB_OFFLINE off once" in message
    with pytest.raises(BadInput, match="Offline mode is on.*switch it off for this command"):
        pushed(hub)
    with pytest.raises(BadInput, match="Offline mode is on"):
        listed_vectors(Session.of())
    assert not hub.asked
    cached = pull_copy(NAME).vector
    data = cached.read_bytes()
    cached.resolve().write_bytes(data[:-4] + b"\0\0\0\0")
    assert "is not the file that its config.json describes" in refused(), "what lies in the cache is checked too"


def test_equal_pushes_are_equal_files() -> None:
    own = SteeringVector.load(THINK)
    assert repository_files(own, NAME, force=True) == repository_files(own, NAME, force=True)
    assert (
        yaml.safe_load(repository_files(own, NAME, force=True)["plan.yaml"])["interventions"][0]["operation"] == "add"
    )


def test_vectors_are_listed_by_tag_and_base_model(hub: FakeHub) -> None:
    provenance = SteeringVector.load(THINK).provenance
    for name, base in (("me/a", "Qwen/Qwen2.5-1.5B"), ("me/b", "Qwen/Qwen2.5-7B")):
        own = vector(layer=2)
        of = SteeringVector(own.name, own.site, own.direction, type(provenance)("random", "f", base))
        pushed(hub, name, of)
    hub.put("you/model", {"README.md": b"---\ntags: [text-generation]\n---\n"})
    found = listed_vectors(Session.of())
    assert [(one.repository, one.base_models, one.library) for one in found] == [
        ("me/a", ("Qwen/Qwen2.5-1.5B",), "steering-workbench"), ("me/b", ("Qwen/Qwen2.5-7B",), "steering-workbench"),
    ]  # fmt: skip
    assert (found[0].downloads, found[0].likes, found[0].changed) == (7, 2, "2026-02-03")
    assert [one.repository for one in listed_vectors(Session.of(), "Qwen/Qwen2.5-7B")] == ["me/b"]
    assert listed_vectors(Session.of(), "Qwen/Qwen3-4B") == [] and len(listed_vectors(Session.of(), limit=1)) == 1
    with pytest.raises(BadInput, match="A list of 0 repositories cannot be asked for: give a limit from 1 to 1000"):
        listed_vectors(Session.of(), limit=0)
    with pytest.raises(BadInput, match="'base' is not the name of a repository"):
        listed_vectors(Session.of(), "base")
    hub.refuse = 418
    with pytest.raises(BadInput, match="Could not read the list of models: the hub at .* answers 418"):
        listed_vectors(Session.of())


def test_in_the_place_of_a_file_a_name_is_one_commit(hub: FakeHub) -> None:
    own = SteeringVector.load(THINK)
    pushed(hub)
    assert SteeringVector.load(f"hub:{NAME}").digest == own.digest
    asked = len(hub.asked)
    pushed(hub, of=vector(layer=2), force=True, base_commit=None)
    pushing = len(hub.asked) - asked
    plan = parse_plan(f"add hub:{NAME} 1v; ablate hub:{NAME}")
    assert list(plan.vectors) == [own.digest] and len(hub.asked) == asked + pushing, "nothing was asked again"
    assert pull_vector(NAME).digest == vector(layer=2).digest, "a pull asks"
    cached = pull_copy(NAME).folder.parent
    for folder in cached.iterdir():
        (folder / "vector.safetensors").unlink()
    assert SteeringVector.load(f"hub:{NAME}").digest == own.digest, "fetched again, of the same commit"
    first = next(folder for folder in cached.iterdir() if b'"width": 128' in (folder / "config.json").read_bytes())
    (first / "vector.safetensors").resolve().write_bytes(b"broken")
    with pytest.raises(BadInput, match="is not the file that its config.json describes"):
        SteeringVector.load(f"hub:{NAME}")


def test_what_a_person_said_and_a_later_push_does_not_is_said(hub: FakeHub) -> None:
    own = SteeringVector.load(THINK)
    whole = {"base_commit": COMMIT, "licence": "mit", "arxiv": ("2506.18167",), "useful": (0.5, 1.5)}
    held = push_vector(own, NAME, **whole)  # type: ignore[arg-type]
    with pytest.warns(
        Replacing, match=r"the licence mit, papers \(2506\.18167\), useful amounts \[0\.5, 1\.5\], .* commit 0123"
    ) as said:
        bare = push_vector(own, NAME, force=True)
    assert "of this vector, and this push brings none of it" in str(said[0].message)
    assert bare.replaced is not None and bare.replaced.same and bare.replaced.commit == held.commit
    assert [fact.split()[-1] for fact in bare.replaced.facts] == ["mit", "(2506.18167)", "1.5]", COMMIT]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert push_vector(own, NAME, **whole).replaced is None, "more is said than before"  # type: ignore[arg-type]
        changed = push_vector(own, NAME, **(whole | {"licence": "apache-2.0"}))  # type: ignore[arg-type]
    assert changed.replaced is None, "said anew is not dropped"


def test_a_vector_taken_by_name_notes_repository_and_commit(hub: FakeHub, tmp_path: Path) -> None:
    commit = pushed(hub)
    named = load_stored(f"hub:{NAME}")
    assert named.provenance.notes["hub"] == f"{NAME}@{commit}" and "hub" not in pull_vector(NAME).provenance.notes
    assert named.digest == SteeringVector.load(THINK).digest == pull_vector(NAME).digest
    again = SteeringVector.load(named.save(tmp_path / "kept.safetensors"))  # type: ignore[union-attr]
    assert again.provenance == named.provenance, "kept with a run, it still says so"
    (held,) = read_plan(f"add hub:{NAME}@{commit} 1v on generated").vectors.values()
    (beside,) = read_plan(f"hub:{NAME}").vectors.values()
    assert held.provenance.notes["hub"] == beside.provenance.notes["hub"] == f"{NAME}@{commit}"
    assert "hub" not in SteeringVector.load(THINK).provenance.notes


def test_the_card_of_a_branch_names_it(hub: FakeHub) -> None:
    own = SteeringVector.load(THINK)
    on_main = repository_files(own, NAME, base_commit=COMMIT)["README.md"].decode()
    assert "@" not in on_main and 'hf_hub_download("me/think", "vector.safetensors")' in on_main
    branch = repository_files(own, f"{NAME}@try", base_commit=COMMIT)["README.md"].decode()
    assert 'hf_hub_download("me/think", "vector.safetensors", revision=\'try\')' in branch
    assert branch.count("steer vectors pull me/think@try --out") == branch.count("steer vectors pull ") == 3
    assert "add hub:me/think@try 1v" in branch and 'pull_vector("me/think@try")' in branch
