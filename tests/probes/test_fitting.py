"""Probes on planted data: directions are found, groups are kept apart, controls and baselines say what they should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from probes.baselines import shuffled_labels, token_windows
from probes.fitting import Fitted, fit_logistic, fit_mass_mean, fit_ridge
from probes.mlp import fit_mlp
from probes.probe import Probe
from probes.splits import Split, grouped_folds, grouped_split
from steering.errors import BadInput
from tests.planted import cosine
from tests.probes.planted_samples import SITE, WIDTH, group_only_samples, planted_samples

CLASSES = ("agree", "disagree")
LINEAR = {"logistic": fit_logistic, "ridge": fit_ridge, "mass-mean": fit_mass_mean}


@pytest.fixture(scope="module")
def logistic() -> Fitted:
    x, y, groups, _ = planted_samples()
    return fit_logistic(x, y, groups=groups, site=SITE, classes=CLASSES, balanced=True, seed=0)


@pytest.mark.parametrize("kind", LINEAR)
def test_every_linear_method_recovers_a_planted_direction(kind: str) -> None:
    x, y, groups, directions = planted_samples(n=2400)
    found = LINEAR[kind](x, y, groups=groups, site=SITE, classes=CLASSES)
    assert cosine(found.probe.direction()[0], directions[1]) > 0.95
    assert found.probe.kind == kind and found.evaluation.auroc.low > 0.85
    assert found.evaluation.selectivity is not None and found.evaluation.selectivity.difference.low > 0.15
    # Two unit-variance classes a gap of 2 apart (and group shifts of 0.5): the best possible AUROC is Phi(2 / sqrt(2.5)) = 0.897.
    assert 0.86 < found.evaluation.auroc.value < 0.94
    assert found.evaluation.ece.value < 0.08, "log-odds along the direction are calibrated"


def test_whitening_finds_the_direction_where_a_strong_nuisance_bends_the_difference_of_means() -> None:
    x, y, groups, directions = planted_samples(n=2400)
    nuisance = torch.nn.functional.normalize(directions[1] + torch.eye(WIDTH)[0], dim=0)
    x = x + torch.randn(len(x), 1, generator=torch.Generator().manual_seed(1)) * 6 * nuisance
    plain, white = (
        fit_mass_mean(x, y, groups=groups, site=SITE, whiten=whiten, controls=0).evaluation.auroc.value
        for whiten in (False, True)
    )
    assert white > plain + 0.1


def test_several_classes_are_told_apart_by_one_matmul() -> None:
    x, y, groups, _ = planted_samples(n=1500, classes=5, gap=4.0)
    found = fit_logistic(x, y, groups=groups, site=SITE, classes=tuple("abcde"), controls=0)
    p = found.probe.probabilities(x)
    assert p.shape == (1500, 5) and torch.allclose(p.sum(-1), torch.ones(1500))
    assert (p.argmax(-1) == y).float().mean() > 0.9 and found.probe.linear
    assert set(found.evaluation.per_class) == set("abcde") and found.evaluation.auroc.low > 0.97
    with pytest.raises(BadInput, match="fit_logistic"):
        fit_ridge(x, y, groups=groups, site=SITE)


def test_a_small_network_finds_what_no_line_can() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 3, generator=generator)
    y = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).long()
    groups = (torch.arange(600) // 4).tolist()
    line = fit_logistic(x, y, groups=groups, site=SITE, controls=0).evaluation.auroc
    network = fit_mlp(x, y, groups=groups, site=SITE, controls=0, decays=(0.1,))
    assert line.high < 0.7 and network.evaluation.auroc.low > 0.85
    again = fit_mlp(x, y, groups=groups, site=SITE, controls=0, decays=(0.1,))
    assert again.probe.digest == network.probe.digest and not network.probe.linear


def test_the_penalty_is_chosen_along_a_path_that_is_kept(logistic: Fitted) -> None:
    strengths = [point.strength for point in logistic.path]
    assert strengths == sorted(strengths, reverse=True) and len(strengths) > 5
    best = min(logistic.path, key=lambda point: point.log_loss)
    assert logistic.probe.provenance.regularisation == best.strength
    x, y, groups, _ = planted_samples()
    again = fit_logistic(x, y, groups=groups, site=SITE, classes=CLASSES)
    assert again.probe.digest == logistic.probe.digest


def test_nothing_of_the_held_out_groups_reaches_the_fit(logistic: Fitted) -> None:
    x, y, groups, _ = planted_samples()
    changed = x.clone()
    changed[logistic.split.test] *= -1.0
    again = fit_logistic(changed, y, groups=groups, site=SITE, classes=CLASSES, controls=0)
    assert again.probe.digest == logistic.probe.digest
    assert again.evaluation.auroc.value != logistic.evaluation.auroc.value


def test_a_split_that_leaks_a_group_is_refused_by_its_name() -> None:
    x, y, groups, _ = planted_samples(n=200)
    names = tuple(dict.fromkeys(groups))
    number = np.array([names.index(g) for g in groups])
    order = np.random.default_rng(0).permutation(200)
    with pytest.raises(BadInput, match=r"'item \d+' lies on both sides"):
        Split(order[:150], order[150:], number, names)
    good = grouped_split(y.numpy(), number, names=names)
    assert not set(number[good.train]) & set(number[good.test])
    for train, test in grouped_folds(y.numpy(), number, 5):
        assert not set(number[train]) & set(number[test])
    others = Split(good.train, good.test, np.arange(200))
    with pytest.raises(BadInput, match="other groups"):
        fit_logistic(x, y, groups=groups, site=SITE, split=others)


def test_rows_that_repeat_under_another_group_name_are_counted() -> None:
    x, y, groups, _ = planted_samples(n=200)
    twice = torch.cat([x, x])
    named = [*groups, *(f"copy of {g}" for g in groups)]
    found = fit_logistic(twice, torch.cat([y, y]), groups=named, site=SITE, controls=0)
    assert found.evaluation.repeated > 50
    assert fit_logistic(x, y, groups=groups, site=SITE, controls=0).evaluation.repeated == 0


def test_without_signal_beyond_groups_a_probe_has_no_selectivity() -> None:
    x, y, groups = group_only_samples()
    found = fit_logistic(x, y, groups=groups, site=SITE, controls=8)
    assert found.evaluation.selectivity is not None
    assert found.evaluation.auroc.low < 0.5 < found.evaluation.auroc.high
    assert found.evaluation.selectivity.difference.low < 0 < found.evaluation.selectivity.difference.high
    leaking = fit_logistic(x, y, groups=range(len(x)), site=SITE, penalties=(1e-4,), controls=0)
    assert leaking.evaluation.auroc.low > 0.6, "split by samples, the same data look like a probe that works"


def test_labels_of_groups_are_shuffled_by_groups() -> None:
    _, y, groups = group_only_samples()
    number = np.array([int(g.split()[1]) for g in groups])
    other = shuffled_labels(y.numpy(), number, 0)
    assert all(len(set(other[number == g])) == 1 for g in set(number))
    assert (other != y.numpy()).any() and other.sum() == y.numpy().sum()


def test_a_probe_that_only_reads_the_token_is_caught_by_the_bag_of_tokens() -> None:
    rng = np.random.default_rng(0)
    n, vocabulary = 800, 30
    sequences = rng.integers(0, vocabulary, size=(n, 8))
    windows = token_windows(sequences.tolist(), [[7]] * n, window=3)
    assert (windows == sequences[:, :4:-1]).all()
    embedding = torch.from_numpy(rng.normal(size=(vocabulary, WIDTH))).float()
    token = torch.from_numpy(sequences[:, 7])
    hidden = torch.from_numpy(rng.integers(0, 2, size=n))
    x = embedding[token] + 0.1 * torch.from_numpy(rng.normal(size=(n, WIDTH))).float()
    by_token = fit_logistic(x, (token % 2), groups=range(n), site=SITE, tokens=windows, controls=0).evaluation
    assert by_token.tokens is not None and by_token.auroc.value > 0.95
    assert by_token.tokens.other.value > 0.95 and by_token.tokens.difference.high < 0.05
    x[:, 0] += 3.0 * hidden
    beyond = fit_logistic(x, hidden, groups=range(n), site=SITE, tokens=windows, controls=0).evaluation
    assert beyond.tokens is not None and beyond.tokens.difference.low > 0.2


def test_tokens_before_the_beginning_are_no_tokens() -> None:
    assert token_windows([[5, 6, 7]], [[0, 2]], window=3).tolist() == [[5, -1, -1], [7, 6, 5]]


@pytest.mark.parametrize("kind", ["logistic", "mlp"])
def test_save_and_load_give_the_same_probe(kind: str, tmp_path: Path) -> None:
    x, y, groups, _ = planted_samples(n=300, classes=3)
    fitted = (fit_logistic if kind == "logistic" else fit_mlp)(x, y, groups=groups, site=SITE, classes=tuple("abc"))
    path = fitted.probe.save(tmp_path / "probe.safetensors")
    again = Probe.load(path)
    assert torch.equal(again.logits(x), fitted.probe.logits(x)) and again.digest == fitted.probe.digest
    assert again.provenance == Probe.load(again.save(tmp_path / "again.safetensors")).provenance
    assert again.provenance.train_groups > again.provenance.test_groups > 0 and again.classes == tuple("abc")
    assert again.provenance.notes["held out"]["auroc"]["value"] == fitted.evaluation.auroc.value
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(BadInput, match="corrupt or cut short"):
        Probe.load(path)
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(BadInput, match="does not hold a probe"):
        Probe.load(tmp_path / "other.safetensors")
    with pytest.raises(BadInput, match="No probe file"):
        Probe.load(tmp_path / "none.safetensors")


def test_mistakes_are_named(logistic: Fitted) -> None:
    x, y, groups, _ = planted_samples(n=200)
    broken = x.clone()
    broken[17, 3] = torch.nan
    for arguments, told in (
        ((broken, y, groups), "Sample 17 holds NaN"),
        ((x, y[:-1], groups), r"\[200, 24\] and labels \[199\]"),
        ((x, y, groups[:-1]), "199 groups"),
        ((x, y * 0, groups), "No sample of disagree"),
        ((x, y + 1, groups), "Labels run from 1 to 2"),
        ((x, y, ["one"] * 200), "1 group only"),
    ):
        with pytest.raises(BadInput, match=told):
            fit_logistic(arguments[0], arguments[1], groups=arguments[2], site=SITE, classes=CLASSES)
    with pytest.raises(BadInput, match="width 5 do not fit a probe of width 24"):
        logistic.probe.logits(torch.zeros(2, 5))
    with pytest.raises(BadInput, match="Did you mean 'agree'"):
        logistic.probe.gate(0.5, of="agre")
    with pytest.raises(BadInput, match="not a probability"):
        logistic.probe.gate(1.5)


@pytest.mark.parametrize("fitter", [fit_logistic, fit_ridge])
def test_the_unit_of_a_coordinate_does_not_matter(fitter: Callable[..., Fitted]) -> None:
    x, y, groups, _ = planted_samples(n=300)
    units = torch.logspace(-3, 3, WIDTH)
    one, two = (fitter(z, y, groups=groups, site=SITE, controls=0).probe for z in (x, x * units))
    assert torch.allclose(one.probabilities(x), two.probabilities(x * units), atol=2e-3)


def test_a_network_stops_before_it_learns_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(400, 16, generator=generator), torch.randint(0, 2, (400,), generator=generator)
    found = fit_mlp(x, y, groups=range(400), site=SITE, controls=0, decays=(0.01,))
    assert found.evaluation.log_loss.value < 0.8, "trained to the end, it is sure of what it cannot know"
