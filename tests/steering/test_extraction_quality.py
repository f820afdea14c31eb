"""Quality of a vector: stability, separability on held-out data, logit lens, massive axes; against oracles and planted cases."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn.metrics import roc_auc_score

from steering.errors import BadInput
from steering.extraction import (
    Reading,
    assess,
    checkpoint_difference,
    logistic_direction,
    mean_difference,
    quality_table,
)
from steering.extraction.principal import first_component
from steering.extraction.quality import Quality, explained_variance
from steering.extraction.surface import token_accuracy
from steering.model.models import LoadedModel
from steering.vector.vectors import SteeringVector, random_like
from tests.planted import EMBEDDING, planted
from tests.steering.test_extraction_measures import D, noise
from tests.tiny import vector

N = 60
U = torch.nn.functional.normalize(noise(D, seed=10), dim=0)


def world(gap: float = 2.0) -> tuple[LoadedModel, list[Reading], torch.Tensor]:
    """Four readings of `N` one-token sequences: training positive, negative, held-out positive, negative; `gap` apart along U."""
    rows = noise(4 * N, D, seed=11)
    rows[:N] += gap * U
    rows[2 * N : 3 * N] += gap * U
    readings = [Reading.last_token([(t,) for t in range(i * N, (i + 1) * N)]) for i in range(4)]
    return planted(rows), readings, rows.double()


def report(**options: object) -> tuple[Quality, SteeringVector, torch.Tensor]:
    model, (high, low, high_test, low_test), rows = world()
    found = mean_difference(model, high, low, [EMBEDDING], name="planted", contrast="c")[EMBEDDING]
    return assess(model, found, (high, low), (high_test, low_test), **options), found, rows  # type: ignore[arg-type]


def test_the_report_equals_its_oracles() -> None:
    quality, found, rows = report(tokens=4)
    unit = found.direction.double() / found.direction.double().norm()
    projected = (rows @ unit).numpy()
    middle = (projected[:N].mean() + projected[N : 2 * N].mean()) / 2
    truth = [1] * N + [0] * N
    assert quality.separability.auc.value == pytest.approx(roc_auc_score(truth, projected[2 * N :]))
    right = np.concatenate([projected[2 * N : 3 * N] > middle, projected[3 * N :] <= middle])
    assert quality.separability.accuracy.value == pytest.approx(right.mean())
    assert quality.separability.threshold == pytest.approx(middle, abs=1e-5)
    assert quality.residual_norm == pytest.approx(float(rows[: 2 * N].norm(dim=1).median()), rel=1e-5)
    assert quality.norm_ratio == pytest.approx(found.norm / quality.residual_norm)
    variance = np.var(projected[: 2 * N]) / np.var(rows[: 2 * N].numpy(), axis=0).sum()
    assert quality.explained_variance == pytest.approx(variance, rel=1e-5)
    assert quality.token_accuracy == 0.5, "every token is read once"
    assert quality.split_half.mean > 0.7 and quality.remarks == () and len(quality.promoted) == 4
    assert (quality.site, quality.digest, quality.method) == (
        "blocks.0.hook_resid_pre",
        found.digest,
        "mean difference",
    )


def test_what_the_tokens_give_away_is_measured() -> None:
    def read(*ends: int) -> Reading:
        return Reading.last_token([(1, i + 5, t) for i, t in enumerate(ends)])

    training = read(7, 7, 7, 8), read(8, 8)  # per side: token 7 positive, token 8 a quarter against all
    assert token_accuracy(training, (read(7, 7), read(8))) == 1
    assert token_accuracy(training, (read(7, 8), read(8))) == 0.75
    assert token_accuracy(training, (read(9), read(10))) == 0.5, "tokens never seen say nothing"
    assert token_accuracy((read(7), read(7)), (read(7), read(7))) == 0.5
    spans = Reading.over([(1, 7, 8, 7)], [[(1, 4), (2, 3)]])
    assert token_accuracy(training, (spans, read(8))) == 0.75, "scores 1, 0.2, 1 average above one half; 0.2 is below"


def test_a_contrast_of_words_gets_a_remark() -> None:
    rows = 0.1 * noise(100, D, seed=15)
    rows[1] += U
    model = planted(rows)

    def read(ids: range, end: int) -> Reading:
        return Reading.last_token([(t, end) for t in ids])

    sides = read(range(10, 30), 1), read(range(10, 30), 2)
    tested = read(range(30, 50), 1), read(range(30, 50), 2)
    found = mean_difference(model, *sides, [EMBEDDING], name="word", contrast="c")[EMBEDDING]
    quality = assess(model, found, sides, tested)
    assert quality.token_accuracy == 1 and quality.separability.accuracy.value == 1
    assert quality.remarks == ("the tokens read tell the sides apart as well: accuracy 1.00",)


def test_explained_variance_of_a_component_is_its_eigenvalue_share() -> None:
    values = noise(50, D, seed=12).double() * torch.logspace(0, 1, D)
    centred = values - values.mean(0)
    top = first_component(centred.T @ centred, torch.ones(D).double())
    assert explained_variance(values, top.direction) == pytest.approx(top.explained)
    assert explained_variance(torch.ones(3, D).double(), top.direction) == 0


def test_a_fit_to_noise_is_seen_through_on_held_out_data() -> None:
    model, (high, low, high_test, low_test), _ = world(gap=0.0)
    small = high.take(range(12)), low.take(range(12))
    fitted = logistic_direction(model, *small, [EMBEDDING], name="noise", contrast="c", penalty=0.01)[EMBEDDING]
    assert fitted.provenance.notes["gap"] > 1, "the training samples are separated"
    quality = assess(model, fitted, small, (high_test, low_test))
    assert abs(quality.separability.auc.value - 0.5) < 0.15
    assert any("does not separate" in r for r in quality.remarks) and any("unstable" in r for r in quality.remarks)


def test_remarks_name_wrong_signs_and_massive_axes() -> None:
    model, readings, _ = world()
    found = mean_difference(model, readings[0], readings[1], [EMBEDDING], name="n", contrast="c")[EMBEDDING]
    turned = replace(found, direction=-found.direction)
    assert any(
        "wrong way" in r for r in assess(model, turned, (readings[0], readings[1]), (readings[2], readings[3])).remarks
    )
    rows = 0.25 * torch.where(noise(40, D, seed=13) > 0, 1.0, -1.0)
    rows[:20, 3] = 300.0
    spiky = planted(rows)
    high, low, high_test, low_test = (
        Reading.last_token([(t,) for t in ids]) for ids in (range(10), range(20, 30), range(10, 20), range(30, 40))
    )
    axis = mean_difference(spiky, high, low, [EMBEDDING], name="axis", contrast="c")[EMBEDDING]
    quality = assess(spiky, axis, (high, low), (high_test, low_test))
    assert quality.concentration.massive_axis and "coordinates [3]" in quality.remarks[-1]


def test_a_random_vector_of_the_same_norm_explains_less() -> None:
    model, (high, low, high_test, low_test), _ = world()
    found = mean_difference(model, high, low, [EMBEDDING], name="n", contrast="c")[EMBEDDING]
    random = assess(model, random_like(found, 1), (high, low), (high_test, low_test))
    planted_one = assess(model, found, (high, low), (high_test, low_test))
    assert random.norm == pytest.approx(planted_one.norm)
    assert random.explained_variance < planted_one.explained_variance / 1.5
    assert random.separability.auc.value < planted_one.separability.auc.low


def test_a_checkpoint_vector_is_assessed_between_its_two_models() -> None:
    rows = noise(80, D, seed=14)
    base, thinking = planted(rows), planted(rows + 3 * U)
    train, test = (Reading.last_token([(t,) for t in ids]) for ids in (range(40), range(40, 80)))
    found = checkpoint_difference(base, thinking, train, [EMBEDDING])[EMBEDDING]
    quality = assess(base, found, (train, train), (test, test), positive_model=thinking, paired=True)
    assert quality.separability.auc.value > 0.95 and quality.separability.sequences == 40
    assert quality.split_half.mean == pytest.approx(1, abs=1e-4)
    one_model = assess(base, found, (train, train), (test, test))
    assert one_model.separability.auc.value == pytest.approx(0.5)


def test_a_report_is_plain_data_and_prints() -> None:
    quality, found, _ = report()
    data = json.loads(json.dumps(quality.to_dict()))
    assert data["separability"]["auc"]["value"] == quality.separability.auc.value and data["name"] == "planted"
    marked = replace(quality, promoted=(replace(quality.promoted[0], text="[red]x[/nope]"),))
    console = Console(width=300, record=True, quiet=False, file=open("/dev/null", "w"))
    console.print(quality_table([quality, marked]))
    text = console.export_text()
    assert "[red]x[/nope]" in text and f"{quality.separability.auc.value:.2f} [" in text and "blocks.0" in text


def change(which: int) -> Callable[[list[Reading], SteeringVector, LoadedModel], object]:
    def run(readings: list[Reading], found: SteeringVector, model: LoadedModel) -> object:
        high, low, high_test, low_test = readings
        if which == 0:
            return assess(model, found, (high, low), (high_test, low))
        if which == 1:
            return assess(model, found, (high_test, low_test), (high, low))
        if which == 2:
            return assess(model, vector(0, 0, "resid_pre"), (high, low), (high_test, low_test))
        return assess(model, found, (high, low.take(range(5))), (high_test, low_test), paired=True)

    return run


@pytest.mark.parametrize(
    ("which", "message"),
    [(0, "60 held-out sequences are also"), (1, "extracted from the held-out"), (2, "not those of"), (3, "60 and 5")],
)
def test_what_cannot_be_judged_is_refused(which: int, message: str) -> None:
    model, readings, _ = world()
    found = mean_difference(model, readings[0], readings[1], [EMBEDDING], name="n", contrast="c")[EMBEDDING]
    with pytest.raises(BadInput, match=message):
        change(which)(readings, found, model)


def test_few_samples_that_separate_are_not_called_a_vector_that_does_not() -> None:
    rows = noise(60, D, seed=4) * 0.01
    rows[1] += U
    model = planted(rows)

    def read(ids: range, end: int) -> Reading:
        return Reading.last_token([(t, end) for t in ids])

    sides = read(range(10, 30), 1), read(range(10, 30), 2)
    found = mean_difference(model, *sides, [EMBEDDING], name="word", contrast="c")[EMBEDDING]
    report = assess(model, found, sides, (read(range(30, 32), 1), read(range(30, 32), 2)))
    assert report.separability.auc.value == 1.0 and report.separability.auc.low <= 0.5
    assert any("too little held out to tell" in remark for remark in report.remarks)
    assert not any("does not separate" in remark for remark in report.remarks)
    assert any("tell the sides apart as well" in remark for remark in report.remarks), "one remark hides no other"
