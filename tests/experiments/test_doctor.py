"""The self-tests pass on models that are right and fail on machinery that is broken on purpose."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from experiments.commands.cli import app
from experiments.doctor import checks
from experiments.doctor.checks import CHECKS, Check, diagnose
from steering.compile import formula
from steering.engine import batch, passes
from steering.engine.ledger import Ledger
from steering.model.executor import HookExecutor
from steering.model.models import wrap
from tests.steering.test_trial import UNSERVED, of
from tests.tiny import tiny, tokenizer


def found(family: str = "llama", only: Collection[str] = ()) -> dict[str, Check]:
    """What the self-tests say of a tiny model: all of them, or those alone that a test looks at."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checks, "CHECKS", [check for check in CHECKS if not only or check[0] in only])
        return {check.name: check for check in diagnose(tiny(family))}


@pytest.mark.parametrize("family", ["gemma3", "gpt2", "qwen3"])
def test_a_sound_engine_passes(family: str) -> None:
    passed = found(family)
    assert len(passed) == len(CHECKS) and all(c.passed for c in passed.values()), [
        c for c in passed.values() if not c.passed
    ]


def test_an_edit_made_twice_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    own = formula.add_constant

    def again(hidden: Any, rows: Any, share: Any) -> Any:
        return own(own(hidden, rows, share)[0], rows, share)

    monkeypatch.setattr(passes, "add_constant", again)
    monkeypatch.setattr(formula, "add_constant", again)
    names = ("edits are where they were asked for", "cache on equals cache off")
    made = found(only=names)
    assert [made[name].passed for name in names] == [False, False]


def test_an_edit_at_other_tokens_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    own = formula.add_constant
    monkeypatch.setattr(
        formula, "add_constant", lambda hidden, rows, share: own(hidden, rows, torch.ones_like(share) * share.amax())
    )
    name = "edits are where they were asked for"
    assert "were asked for" in found(only=[name])[name].measured


def test_steering_that_leaks_into_other_rows_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    own = passes.add_constant

    def leak(hidden: Any, rows: Any, share: Any) -> Any:
        edited, norm = own(hidden, rows, share)
        return edited + rows.delta.amax(0, keepdim=True), norm

    monkeypatch.setattr(passes, "add_constant", leak)
    name = "an unsteered row beside steered ones"
    assert not found(only=[name])[name].passed


def test_a_mask_that_shows_padding_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    own = batch.Batch._mask

    def open_(self: batch.Batch, low: int, end: int) -> Any:
        mask = own(self, low, end)
        return torch.zeros_like(mask) if isinstance(mask, torch.Tensor) else mask

    monkeypatch.setattr(batch.Batch, "_mask", open_)
    name = "padded equals alone"
    assert not found(only=[name])[name].passed


def test_receipts_that_count_wrongly_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "row", lambda self, place, progress: ([1.0] * (progress.length - 1), 1, []))
    name = "receipts count the edits"
    assert not found(only=[name])[name].passed


def test_hooks_that_stay_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    own = HookExecutor.forward

    def leave(self: HookExecutor, *args: Any, **kwargs: Any) -> Any:
        self.layout.layers[0].register_forward_hook(lambda *_: None)
        return own(self, *args, **kwargs)

    monkeypatch.setattr(HookExecutor, "forward", leave)
    try:
        names = ("three runs are the same", "no hooks left")
        assert not found("mistral", names)["no hooks left"].passed
    finally:
        for layer in tiny("mistral").layout.layers:
            layer._forward_hooks.clear()


def test_half_precision_is_compared_within_its_limits() -> None:
    model = tiny("qwen2")
    model.model.bfloat16()
    model.__dict__.pop("dtype", None)
    try:
        made = diagnose(model)
    finally:
        model.model.float()
        model.__dict__.pop("dtype", None)
    assert not [c for c in made if c.passed is False]
    assert {c.name for c in made if c.passed is None} == {
        "padded equals alone",
        "samples do not depend on neighbours",
    }


def test_the_command_prints_facts_and_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(app, ["doctor", "--json"])
    document = json.loads(done.stdout)
    assert done.exit_code == 0 and all(check["passed"] for check in document["checks"])
    assert document["machine"]["packages"]["torch"] == torch.__version__.split("+")[0] or torch.__version__
    shown = ("cache on equals cache off", "receipts count the edits")
    monkeypatch.setattr(checks, "CHECKS", [check for check in CHECKS if check[0] in shown])
    assert "cache on equals cache off" in CliRunner().invoke(app, ["doctor"]).stdout
    monkeypatch.setattr(Ledger, "row", lambda self, place, progress: ([1.0] * (progress.length - 1), 1, []))
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1 and "FAILED" in done.stdout


def test_a_model_whose_rows_depend_on_their_neighbours_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = wrap(of(UNSERVED["bart"]), tokenizer(), id="tiny-bart", trial=False)
    name = "read as one row, in a batch, with a cache"
    monkeypatch.setattr(checks, "CHECKS", [check for check in CHECKS if check[0] == name])
    (check,) = diagnose(refused)
    assert check.passed is False and "is not the row alone" in check.measured
