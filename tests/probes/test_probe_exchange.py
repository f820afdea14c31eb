"""Probes through a hub on this machine."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from probes.exchange import load_probe, probe_files, pull_probe, pull_probe_copy, push_probe
from probes.probe import Probe, ProbeProvenance, two_rows
from steering.errors import BadInput
from steering.model.sites import Site
from tests.fake_hub import FakeHub, front_matter
from tests.steering.test_hub import COMMIT, hub

__all__ = ["hub"]
NAME = "me/probe"
HELD_OUT = {
    "tokens": {"value": 0.0, "low": 0.0, "high": 0.0},
    "auroc": {"value": 0.912, "low": 0.85, "high": 0.96},
    "brier": {"value": None, "low": None, "high": None},
}


def a_probe(**facts: object) -> Probe:
    weight, bias = two_rows(torch.linspace(-1, 1, 8), 0.25)
    origin = ProbeProvenance(
        target="next step checks", model="0123456789abcdef", model_id="me/tiny", train=80, test=40, train_groups=20, test_groups=10,
        notes={"held out": HELD_OUT},
    )  # fmt: skip
    return Probe("logistic", Site(3), ("other", "checking"), (weight,), (bias,), replace(origin, **facts))


def test_a_probe_comes_back_and_reads_the_same(hub: FakeHub, tmp_path: Path) -> None:
    own = a_probe()
    done = push_probe(own, NAME, base_commit=COMMIT, licence="mit")
    back = pull_probe(NAME)
    assert (back.digest, back.site, back.classes, back.provenance) == (
        own.digest,
        own.site,
        own.classes,
        own.provenance,
    )
    h = torch.randn(5, 8)
    assert torch.equal(back.probabilities(h), own.probabilities(h))
    copy = pull_probe_copy(NAME)
    assert (copy.commit, copy.config.base_model.commit, copy.config.facts["held_out"]) == (
        done.commit,
        COMMIT,
        HELD_OUT,
    )
    assert load_probe(f"hub:{NAME}@{done.commit}").digest == own.digest
    assert load_probe(own.save(tmp_path / "p.safetensors")).digest == own.digest
    card = hub.files(NAME)["README.md"].decode()
    assert front_matter(card.encode())["base_model"] == "me/tiny" and "| AUROC | 0.912 (0.85 to 0.96) |" in card
    assert "| Brier score | not defined |" in card and "fitted on 80 of 20 groups, measured on 40 of 10 others" in card
    assert "| AUROC beyond that of the token ids near the position | 0 (0 to 0) |" in card
    assert "has no interval" not in card
    named = probe_files(a_probe(target="ex.jsonl"), NAME, base_commit=COMMIT)["README.md"].decode()
    assert (
        "ex.jsonl" not in named
        and "it reads which of its classes a token's activation is of (other, checking)" in named
    )
    assert "reads next step checks from the activations" in card and f"--probe hub:{NAME}" in card


def test_what_is_not_known_of_a_probe_is_said(hub: FakeHub) -> None:
    bare = a_probe(model_id="", model="unknown", notes={}, train=0)
    with pytest.raises(BadInput, match="The probe of 'next step checks' does not say which model"):
        push_probe(bare, NAME, base_commit=COMMIT)
    with pytest.raises(BadInput, match="commit of the base model me/tiny is not known"):
        push_probe(a_probe(), NAME)
    push_probe(bare, NAME, force=True)
    card = hub.files(NAME)["README.md"].decode()
    assert "how well it reads anything is not shown" in card and "the probe does not say whose activations" in card
    assert "* **Samples**: not said" in card and "fingerprint unknown" in card
    few = a_probe(notes={"held out": {"auroc": {"value": 1.0, "low": math.nan, "high": math.nan}}})
    push_probe(few, NAME, base_commit=COMMIT)
    card = hub.files(NAME)["README.md"].decode()
    assert "| AUROC | 1, no interval |" in card and "its rarest class has fewer than 5 held-out groups" in card
    json.loads(hub.files(NAME)["config.json"], parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_what_is_no_probe_or_another_is_refused(hub: FakeHub) -> None:
    push_probe(a_probe(), NAME, base_commit=COMMIT)
    held = hub.files(NAME)
    for change, message in (
        ({"digest": "0" * 16}, "is probe .*; its config.json says 0000"),
        ({"kind": "plan"}, "holds a plan, not a probe: `steer plan pull` fetches it"),
        ({"files": {}}, "names no probe.safetensors"),
    ):
        hub.put(NAME, {"config.json": json.dumps(json.loads(held["config.json"]) | change).encode()})
        with pytest.raises(BadInput, match=message):
            pull_probe(NAME)
    hub.put(NAME, {"config.json": held["config.json"], "probe.safetensors": held["probe.safetensors"][:-1]})
    with pytest.raises(BadInput, match="is not the file that its config.json names"):
        pull_probe(NAME)
    with pytest.raises(BadInput, match="There is no model repository me/gone"):
        load_probe("hub:me/gone")
    hub.put("me/other", {"weights.bin": b"1"})
    with pytest.raises(BadInput, match="holds no config.json, so it is no repository of a probe"):
        pull_probe("me/other")
    with pytest.raises(BadInput, match=r"holds other files than a probe's \(weights.bin\)"):
        push_probe(a_probe(), "me/other", base_commit=COMMIT)
