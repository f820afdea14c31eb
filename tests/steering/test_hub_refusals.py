"""What a hub holds and is not as it says, and what a hub does not give or take, is refused with its own reason."""

from __future__ import annotations

import hashlib
import json
import pickle
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from steering.errors import BadInput
from steering.vector.exchange import pull_copy, pull_vector, push_vector, repository_files
from steering.vector.hub.contents import FILES
from steering.vector.hub.evidence import Evidence
from steering.vector.hub.listing import listed_vectors
from steering.vector.hub.names import Address
from steering.vector.hub.session import NotAnswering, Session
from steering.vector.vectors import FORMAT, SteeringVector, write_tensors
from tests.fake_hub import FakeHub
from tests.steering.test_hub import COMMIT, NAME, THINK, hub, pushed, refused
from tests.tiny import vector

__all__ = ["hub"]


def changed(hub: FakeHub, facts: dict[str, Any] | None = None, of: dict[str, Any] | None = None, **top: Any) -> None:
    """A further commit whose config.json says something else: of the file (`facts`), of the base model (`of`), or at its top."""
    config = json.loads(hub.files(NAME)["config.json"])
    config["file"] |= facts or {}
    config["base_model"] |= of or {}
    hub.put(NAME, {"config.json": json.dumps(config | top).encode()})


def in_place(hub: FakeHub, other: bytes, **facts: Any) -> None:
    """A further commit with another vector's file, whose config.json is given its sha256."""
    hub.put(NAME, {"vector.safetensors": other})
    changed(hub, {"sha256": hashlib.sha256(other).hexdigest(), "size": len(other), **facts})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda hub: hub.put(NAME, {"vector.safetensors": hub.files(NAME)["vector.safetensors"][:-4]}),
         r"vector\.safetensors of me/think at [0-9a-f]{12} is not the file that its config\.json describes: sha256 .* and 1116 bytes, not"),
        (lambda hub: changed(hub, {"sha256": "0" * 64}), r"sha256 .* not 0{16}\.\.\. and 1120.*delete that file and pull again"),
        (lambda hub: changed(hub, width=64), r"has shape \[128\]; its config\.json says width 64\. Ask its author"),
        (lambda hub: changed(hub, site="blocks.1.hook_resid_post"), r"lies at blocks\.3\.hook_resid_post; its config\.json says blocks\.1"),
        (lambda hub: changed(hub, {"digest": "0" * 16}), r"holds vector d958dd96ea734f31; its config\.json says 0{16}\. Another"),
        (lambda hub: changed(hub, version=2), r"config\.json of me/think at \w+ is of version 2 of the format; this program reads"),
        (lambda hub: changed(hub, format="peft"), r"is not that of a steering vector: its format is 'peft', not 'steering-workbench/hub'"),
        (lambda hub: changed(hub, {"name": "pytorch_model.bin"}), r"names the file 'pytorch_model\.bin'; a repository's vector is"),
        (lambda hub: changed(hub, {"digest": "d958"}), r"config\.json of .*: file\.digest: String should match pattern"),
        (lambda hub: changed(hub, further=1), r"config\.json of .*: further: Extra inputs are not permitted"),
        (lambda hub: hub.put(NAME, {"config.json": b'{"format": '}), r"config\.json of .* is not JSON .*; it is cut short, or"),
        (lambda hub: hub.put(NAME, {"config.json": b"[]"}), r"holds a list; a JSON object is needed"),
    ],
)  # fmt: skip
def test_what_is_not_as_described_is_refused(hub: FakeHub, change: Any, message: str) -> None:
    pushed(hub)
    change(hub)
    with pytest.raises(BadInput, match=message):
        pull_vector(NAME)
    with pytest.raises(BadInput, match=message):
        SteeringVector.load(f"hub:{NAME}")


def test_another_vector_in_place_is_found_out_however_it_is_dressed(hub: FakeHub, tmp_path: Path) -> None:
    own = SteeringVector.load(THINK)
    pushed(hub)
    other = SteeringVector(own.name, own.site, own.direction.flip(0), own.provenance).save(tmp_path / "o").read_bytes()
    hub.put(NAME, {"vector.safetensors": other})
    assert "is not the file that its config.json describes" in refused()
    in_place(hub, other)
    assert "Another vector lies in its place" in refused()
    narrow = vector(layer=3).save(tmp_path / "n").read_bytes()
    in_place(hub, narrow)
    assert "has shape [16]; its config.json says width 128" in refused()
    foreign = write_tensors(tmp_path / "f", {"direction": own.direction}, {"format": FORMAT}).read_bytes()
    in_place(hub, foreign)
    assert "is no vector of this program ('vector')" in refused()
    in_place(hub, b"not a file of tensors")
    assert "is no vector of this program" in refused()


def test_pickles_beside_a_vector_are_neither_fetched_nor_read(hub: FakeHub, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    pushed(hub)
    hub.put(NAME, {"pytorch_model.bin": pickle.dumps(Trap()), "vector.pt": pickle.dumps(Trap()), "run.py": b"1/0"})
    copy = pull_copy(NAME)
    assert sorted(path.name for path in copy.folder.iterdir()) == sorted(FILES)
    assert pull_vector(NAME).digest == SteeringVector.load(THINK).digest and not (tmp_path / "sprung").exists()
    assert not [path for _, path in hub.asked if path.endswith((".bin", ".pt", ".py"))]
    in_place(hub, pickle.dumps(Trap()))
    assert "is no vector of this program" in refused() and not (tmp_path / "sprung").exists()


def test_a_hub_that_does_not_answer(hub: FakeHub, tmp_path: Path) -> None:
    pushed(hub)
    message = refused(endpoint="http://127.0.0.1:9", cache=tmp_path / "empty")
    assert "http://127.0.0.1:9 cannot be reached, and me/think is not in the cache" in message
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        commit = pull_copy(NAME).commit
    own = SteeringVector.load(THINK).digest
    said = f"127.0.0.1:9 does not answer for me/think .*taken from the cache, .* at commit {commit[:12]}"
    with pytest.warns(NotAnswering, match=said):
        assert pull_vector(NAME, endpoint="http://127.0.0.1:9").digest == own
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a commit is what it is, whatever the hub holds now
        assert pull_vector(NAME, commit, endpoint="http://127.0.0.1:9").digest == own
    hub.refuse = 503
    hub.asked.clear()
    with pytest.warns(NotAnswering, match="503"):
        assert pull_vector(NAME).digest == own
    assert len(hub.asked) == 1, "a hub that does not answer is not asked again"
    hub.refuse = 0
    with pytest.raises(BadInput, match="'hub.example' is no address of a hub .*: it begins with https://"):
        pull_vector(NAME, endpoint="hub.example")
    with pytest.raises(BadInput, match="Could not write me/think: the connection to http://127.0.0.1:9 broke"):
        pushed(hub, endpoint="http://127.0.0.1:9")


def test_a_list_is_asked_for_once_where_the_hub_does_not_answer(hub: FakeHub) -> None:
    began = time.monotonic()
    with pytest.raises(BadInput, match="Could not read the list of models: the connection to http://127.0.0.1:9 broke"):
        listed_vectors(Session.of("http://127.0.0.1:9"))
    assert time.monotonic() - began < 5, "not asked again and again"
    hub.refuse = 503
    with pytest.raises(BadInput, match="Could not read the list of models: the hub at .* answers 503"):
        listed_vectors(Session.of())
    assert len(hub.asked) == 1


@pytest.mark.parametrize(
    ("status", "reading", "writing"),
    [
        (401, r"does not know who asks for me/think \(401\), or has no such repository: log in \(`hf auth login`\).* read it",
         r"does not know who asks for me/think \(401\).* write it"),
        (403, r"does not allow this token to read me/think \(403\)", r"does not allow this token to write me/think \(403\)"),
        (404, r"There is no model repository me/think at .* \(404\), or it is private: check owner", r"There is no model repository"),
        (418, r"Could not read me/think: the hub at .* answers 418", r"Could not write me/think: the hub at .* answers 418"),
    ],
)  # fmt: skip
def test_what_the_hub_refuses_is_said(hub: FakeHub, status: int, reading: str, writing: str) -> None:
    hub.refuse = status
    with pytest.raises(BadInput, match=reading):
        pull_vector(NAME)
    with pytest.raises(BadInput, match=writing):
        pushed(hub)


def test_what_is_not_there_is_said(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "There is no model repository me/think" in refused()
    pushed(hub)
    assert "me/think has no revision 'v2'" in (said := refused(f"{NAME}@v2")) and "40 digits" not in said
    assert "a commit is written with all of its 40 digits" in refused(f"{NAME}@26b33535d118")
    with pytest.raises(
        BadInput, match="There is no repository me/none at .*, so it has no branch 'try': push without @try first"
    ):
        pushed(hub, "me/none@try")
    assert "me/none" not in hub.repositories
    with pytest.raises(BadInput, match="`hf repos branch create me/think try` makes a branch"):
        pushed(hub, f"{NAME}@try")
    hub.put("me/empty", {"README.md": b"# nothing"})
    assert (
        "me/empty at" in (said := refused("me/empty")) and "holds no config.json, so it is no repository of a" in said
    )
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    pushed(hub, "me/secret", private=True, of=vector(layer=2), force=True, base_commit=None)
    monkeypatch.delenv("HF_TOKEN")
    assert "There is no model repository me/secret" in refused("me/secret")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    assert pull_vector("me/secret").digest == vector(layer=2).digest


def test_a_connection_that_is_cut_leaves_nothing_half_fetched(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    pushed(hub)
    hub.cut = {"vector.safetensors"}
    message = refused()
    assert "Could not read me/think: the connection to" in message and "No file is left half" in message
    assert "is not in the cache" in refused(offline=True)
    hub.cut = set()
    assert pull_vector(NAME).digest == SteeringVector.load(THINK).digest


def test_an_unknown_base_model_or_commit_is_refused_unless_forced(hub: FakeHub) -> None:
    own = SteeringVector.load(THINK)
    with pytest.raises(
        BadInput, match="commit of the base model builtin:base is not known.* in no repository.*--force"
    ):
        push_vector(own, NAME)
    with pytest.raises(BadInput, match="Vector 'v0' does not say which model it comes from"):
        push_vector(vector(), NAME, base_commit=COMMIT)
    for wrong in ("main", COMMIT[:12], COMMIT.upper()):
        with pytest.raises(BadInput, match=f"'{wrong}' is not a commit: give 40 hexadecimal digits"):
            push_vector(own, NAME, base_commit=wrong, force=True)
    assert not hub.asked
    push_vector(own, NAME, force=True)
    assert pull_copy(NAME).config.base_model.commit == "unknown"
    assert "**commit unknown**" in hub.files(NAME)["README.md"].decode()
    push_vector(vector(), NAME, force=True)
    assert pull_copy(NAME).config.base_model.id == "unknown"
    assert "does not say whose activations it lies in" in hub.files(NAME)["README.md"].decode()


@pytest.mark.parametrize(
    "name", ["think", "a/b/c", "me/", "/think", "me/th ink", "me/..", "me/a--b", "me/think.git", "", "me/" + "x" * 120, "../etc/passwd"]
)  # fmt: skip
def test_what_is_no_repository_is_refused_before_a_request(hub: FakeHub, name: str) -> None:
    for ask in (pull_vector, lambda n: SteeringVector.load(f"hub:{n}"), lambda n: push_vector(vector(), n, force=True)):
        with pytest.raises(BadInput, match="is not the name of a repository.*Write owner/name"):
            ask(name)
    assert not hub.asked


@pytest.mark.parametrize("revision", ["", "a b", "../x", "a//b", "-x", "x/", "a\nb"])
def test_what_is_no_revision_is_refused(revision: str) -> None:
    with pytest.raises(BadInput, match="is not a revision: name a branch|ends with @: name a branch"):
        Address.parse(f"me/think@{revision}")
    with pytest.raises(BadInput, match="names a revision, and so does"):
        Address.parse("me/think@main", "v2")
    assert Address.parse("hub:me/think@refs/pr/1") == Address("me/think", "refs/pr/1")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"licence": "MIT License"}, "'MIT License' is not an identifier of a licence"),
        ({"arxiv": ["2506.18167", "foo"]}, "'foo' is not an arXiv id: write it as 2506.18167"),
        ({"useful": (2.0, 1.0)}, "Useful amounts from 2 to 1: give two finite numbers, the smaller first"),
        ({"useful": (0.0, float("inf"))}, "Useful amounts from 0 to inf"),
        ({"evidence": Evidence(vector="0" * 16)}, f"evidence is of vector {'0' * 16}, not of d958dd96ea734f31"),
    ],
)  # fmt: skip
def test_what_is_not_of_its_form_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        repository_files(SteeringVector.load(THINK), NAME, base_commit=COMMIT, **given)


def test_a_card_that_the_hub_does_not_take_is_said(hub: FakeHub) -> None:
    with pytest.raises(BadInput, match="Could not write me/think at http.*: Invalid metadata in README.md"):
        pushed(hub, licence="beerware")
    assert NAME not in hub.repositories, "nothing is left of a push that failed"


def test_what_is_wrong_with_the_disk_is_not_the_hubs_fault(hub: FakeHub, tmp_path: Path) -> None:
    pushed(hub)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        pull_vector(NAME, cache=tmp_path / "file" / "cache")


@pytest.mark.parametrize("name", ["plan.yaml", "evidence.json"])
def test_a_plan_or_evidence_that_is_not_what_was_pushed_is_refused(hub: FakeHub, name: str) -> None:
    pushed(hub)
    held = hub.files(NAME)[name]
    for wrong in (held[:-5], held + b" "):
        hub.put(NAME, {name: wrong})
        assert f"{name} of me/think at" in (said := refused()) and "not the file that its config.json describes" in said
    hub.put(NAME, {name: held})
    assert pull_vector(NAME)
    config = json.loads(hub.files(NAME)["config.json"])
    hub.put(NAME, {"config.json": json.dumps(config | {"files": {"../x": "0"}}).encode()})
    assert "names '../x', which is no file of such a repository" in refused()
