"""Vectors that do not fit the model are refused before its weights are loaded, by every card that takes vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from experiments.store.runs import Store
from experiments.studies.elicitation.asked import Elicit, Setting
from experiments.studies.elicitation.misfits import refuse_misfits
from experiments.studies.elicitation.named import CARDS
from experiments.studies.elicitation.run import options_of, run_card
from steering.errors import BadInput
from steering.model.sites import Site
from steering.vector.vectors import Provenance, SteeringVector
from tests.experiments.command_line import Steer, command

steer = pytest.fixture(command)
BARE = Elicit(settings=(Setting(name="bare prompts", split="standard-test", form="bare"),), max_new_tokens=4)
FOREIGN = Provenance("test", "0" * 16, "someone/else")
TAKING = {
    name: "files" if "files" in type(card.quick).model_fields else "file"
    for name, card in CARDS.items()
    if {"file", "files"} & set(type(card.quick).model_fields)
}
"""The option by which a card is given vectors."""


def saved(folder: Path, width: int, layer: int) -> str:
    return str(SteeringVector("odd", Site(layer), torch.ones(width), FOREIGN).save(folder / "odd.safetensors"))


@pytest.fixture(autouse=True)
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "experiments.studies.elicitation.workroom.load", lambda *given: pytest.fail("the weights are loaded")
    )


def test_every_card_that_takes_vectors_is_asked_here() -> None:
    assert set(TAKING) >= {"audit", "ceiling", "coherence", "reflection", "sentences", "shift", "symbols"}


@pytest.mark.parametrize("name", sorted(TAKING))
@pytest.mark.parametrize(("width", "layer", "said"), [(7, 0, "has width 7.*someone/else"), (128, 99, "does not exist")])
def test_a_vector_that_does_not_fit_is_refused_before_the_weights_are_loaded(
    name: str, width: int, layer: int, said: str, tmp_path: Path
) -> None:
    file = saved(tmp_path, width, layer)
    given: dict[str, Any] = {TAKING[name]: [file] if TAKING[name] == "files" else file, "n": 3}
    with pytest.raises(BadInput, match=f"odd.safetensors: .*{said}"):
        run_card(CARDS[name], BARE, Store(tmp_path), given=given, console=Console(quiet=True))


def test_the_audit_of_files_refuses_them_too_and_latents_that_there_are_not(steer: Steer, tmp_path: Path) -> None:
    code, _, error = steer("vectors", "audit", saved(tmp_path, 7, 0), "--runs", tmp_path)
    assert code == 2 and "has width 7" in error, error
    given = {"sae": "builtin:base", "latents": [10**6], "n": 3}
    with pytest.raises(BadInput, match="latents: builtin:base has latents 0 to"):
        run_card(CARDS["audit"], BARE, Store(tmp_path), given=given, console=Console(quiet=True))


def test_another_site_counts_in_place_of_the_vectors_own(tmp_path: Path) -> None:
    file = saved(tmp_path, 128, 99)
    options = options_of(CARDS["coherence"], "quick", {"files": [file], "site": "blocks.0.hook_resid_post"})
    refuse_misfits(BARE, options, {})
    options = options_of(CARDS["coherence"], "quick", {"files": [file], "site": "blocks.98.hook_resid_post"})
    with pytest.raises(BadInput, match="does not exist"):
        refuse_misfits(BARE, options, {})


def test_a_vector_of_another_model_that_fits_is_allowed(tmp_path: Path) -> None:
    file = saved(tmp_path, 128, 0)
    refuse_misfits(BARE, options_of(CARDS["symbols"], "quick", {"file": file}), {})
