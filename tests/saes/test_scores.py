"""The score table against scikit-learn, SciPy and plain loops over texts."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sae_lens import StandardSAE, StandardSAEConfig
from scipy import stats
from sklearn.metrics import roc_auc_score

from saes.corpus import LabelledSpan, Text, encoded
from saes.dictionary import Dictionary
from saes.differences import paired_difference
from saes.loading import load_dictionary
from saes.logit_effect import logit_effects
from saes.reason_score import Vocabulary
from saes.scores import ScorePass, candidates, score_table
from steering.errors import BadInput
from steering.extraction.lens import lens_logits
from steering.extraction.reading import Reading
from steering.model.hooks import hooked
from steering.model.models import LoadedModel, load_model
from steering.model.sites import Site
from tests.saes.test_features import LATENTS, SITE, random_sae
from tests.tiny import VOCABULARY, tiny

LABELS = ("checking", "deducing", "guessing")


def made(kind: str = "jumprelu", dead: bool = True) -> Dictionary:
    """A random autoencoder; latent 0 is never active."""
    sae = random_sae(kind)
    if dead:
        with torch.no_grad():
            sae.W_enc[:, 0], sae.b_enc[0] = 0.0, -1.0
    return Dictionary(kind, sae, SITE)


def corpus(n: int = 23, seed: int = 0) -> list[Text]:
    """Texts with special tokens inside, labelled spans, and answers that some do not have."""
    rng, texts = random.Random(seed), []
    for number in range(n):
        ids = (1, *(rng.choice([2, *range(7, VOCABULARY)]) for _ in range(rng.randint(12, 50))))
        cuts = sorted(rng.sample(range(4, len(ids)), 4))
        spans = tuple(LabelledSpan(rng.choice(LABELS), a, b) for a, b in zip(cuts, cuts[1:], strict=False))
        texts.append(Text(ids, prompt=4, spans=spans, correct=None if number % 7 == 6 else rng.random() < 0.5))
    return texts


def read(model: LoadedModel, dictionary: Dictionary, text: Text) -> tuple[np.ndarray, np.ndarray]:
    """(latents `[positions, latents]`, tokens that count) of one text, by itself."""
    seen: list[torch.Tensor] = []
    with torch.no_grad(), hooked(model.layout, {dictionary.site: lambda x: seen.append(x[0].clone())}):
        model.model(input_ids=torch.tensor([text.ids]))
    return dictionary.encode(seen[0]).double().numpy(), np.array([token > 2 for token in text.ids])


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return score_table(
        tiny("llama"), made(), corpus(), vocabulary=Vocabulary(("w20", "w33")), thinking=tiny("qwen2"), logit_tokens=3,
        groups=6, batch_size=5,
    )  # fmt: skip


@pytest.fixture(scope="module")
def texts_read() -> list[tuple[np.ndarray, np.ndarray]]:
    return [read(tiny("llama"), made(), text) for text in corpus()]


def test_activity_is_that_of_all_counted_tokens(table: pd.DataFrame, texts_read: list[Any]) -> None:
    z = np.concatenate([z[counted] for z, counted in texts_read])
    assert table.density.to_numpy() == pytest.approx((z > 0).mean(0), abs=1e-9)
    assert table["mean"].to_numpy() == pytest.approx(z.mean(0), abs=1e-5)
    assert table.peak.to_numpy() == pytest.approx(z.max(0), abs=1e-5)
    active = (z > 0).any(0)
    assert table.mean_active[active].to_numpy() == pytest.approx(z.sum(0)[active] / (z > 0).sum(0)[active], abs=1e-5)
    assert table.attrs["tokens"] == len(z) and table.attrs["l0"] == pytest.approx((z > 0).sum(1).mean())
    inside = (table.density_low <= table.density) & (table.density <= table.density_high)
    assert inside.all() and (table.density_low[active] < table.density_high[active]).all()


def test_reconstruction_is_measured_on_every_sixteenth_counted_token() -> None:
    model, dictionary, texts = tiny("llama"), made("topk", dead=False), corpus()
    found = score_table(model, dictionary, texts, batch_size=1).attrs["explained_variance"]
    h = []
    for batch in encoded(model, dictionary, texts, batch_size=1):
        h.append(batch.activations[batch.mask][::16])
    x = torch.cat(h).double()
    missed = x - dictionary.reconstruct(x.float()).double()
    assert found == pytest.approx(float(1 - missed.square().sum() / (x - x.mean(0)).square().sum()), rel=1e-5)


def units(texts: list[Text], texts_read: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    labels, values = [], []
    for text, (z, counted) in zip(texts, texts_read, strict=True):
        for span in text.spans:
            where = np.arange(span.start, span.end)[counted[span.start : span.end]]
            if len(where):
                labels.append(span.label)
                values.append(z[where].mean(0))
    return np.array(labels), np.stack(values)


def test_auroc_is_that_of_the_spans_mean_activations(table: pd.DataFrame, texts_read: list[Any]) -> None:
    labels, values = units(corpus(), texts_read)
    with np.errstate(divide="ignore"):
        binned = np.floor(4 * np.log2(values)).clip(-100, None)
    for label in LABELS:
        for latent in np.flatnonzero(table.density > 0):
            expected = roc_auc_score(labels == label, binned[:, latent])
            assert table[f"auroc_{label}"][latent] == pytest.approx(expected, abs=0.01), (label, latent)


def test_correctness_is_the_correlation_over_texts_of_generated_tokens(
    table: pd.DataFrame, texts_read: list[Any]
) -> None:
    values, right = [], []
    for text, (z, counted) in zip(corpus(), texts_read, strict=True):
        if text.correct is not None:
            values.append(z[text.prompt :][counted[text.prompt :]].mean(0))
            right.append(text.correct)
    for latent in np.flatnonzero(np.std(values, axis=0) > 0):
        found = stats.pearsonr(right, np.array(values)[:, latent])
        interval = found.confidence_interval()
        assert table.correctness[latent] == pytest.approx(found.statistic, abs=1e-5)
        assert table.correctness_p[latent] == pytest.approx(found.pvalue, abs=1e-4)
        bounds = table.correctness_low[latent], table.correctness_high[latent]
        assert bounds == pytest.approx((interval.low, interval.high), abs=1e-4)


def test_the_difference_between_two_models_is_paired_by_text(table: pd.DataFrame, texts_read: list[Any]) -> None:
    theirs = [read(tiny("qwen2"), made(), text) for text in corpus()]
    step = np.stack([b[c].mean(0) - a[c].mean(0) for (a, c), (b, _) in zip(texts_read, theirs, strict=True)])
    found = stats.ttest_1samp(step, 0.0)
    moved = step.std(0) > 0
    interval = found.confidence_interval()
    assert moved.sum() > 30
    for name, expected in (
        ("", step.mean(0)), ("_p", found.pvalue), ("_low", interval.low), ("_high", interval.high),
    ):  # fmt: skip
        assert table[f"thinking_difference{name}"][moved].to_numpy() == pytest.approx(expected[moved], abs=1e-5)
    by_hand = step[:, moved].mean(0) / step[:, moved].std(0, ddof=1)
    assert table.thinking_standardised[moved].to_numpy() == pytest.approx(by_hand, abs=1e-4)
    z = np.concatenate([z[counted] for z, counted in theirs])
    assert table.thinking_density.to_numpy() == pytest.approx((z > 0).mean(0), abs=1e-9)


@pytest.mark.parametrize("kind", ["standard", "jumprelu", "gated", "topk", "topk, decoder norms"])
def test_the_paired_difference_reads_one_position_of_each_side(kind: str) -> None:
    model, dictionary, rng = tiny("llama"), made(kind, dead=False), random.Random(4)
    sides = [
        [(1, *(rng.randrange(7, VOCABULARY) for _ in range(rng.randint(4, 30)))) for _ in range(15)] for _ in range(2)
    ]
    places = [[(rng.randrange(2, len(s)),) for s in side] for side in sides]
    cot, direct = (Reading.at(s, p) for s, p in zip(sides, places, strict=True))
    found = paired_difference(model, dictionary, cot, direct, batch_size=4)

    def z(ids: tuple[int, ...], place: int) -> np.ndarray:
        seen: list[torch.Tensor] = []
        with torch.no_grad(), hooked(model.layout, {SITE: lambda x: seen.append(x[0, place].clone())}):
            model.model(input_ids=torch.tensor([ids]))
        if not kind.startswith("topk"):
            return dictionary.encode(seen[0]).double().numpy()
        sae = dictionary.sae
        u = sae.process_sae_in(seen[0]) @ sae.W_enc + sae.b_enc
        return (u * (sae.W_dec.norm(dim=-1) if "norms" in kind else 1.0)).detach().double().numpy()

    above, below = (
        np.stack([z(i, p[0]) for i, p in zip(s, q, strict=True)]) for s, q in zip(sides, places, strict=True)
    )
    moved = (above - below).std(0) > 0
    assert found.pairs == 15 and moved.sum() > 25 and (not kind.startswith("topk") or moved.all())
    expected = stats.ttest_rel(above, below)
    assert found.difference.value == pytest.approx((above - below).mean(0), abs=1e-4)
    assert found.difference.p[moved] == pytest.approx(expected.pvalue[moved], abs=1e-3)
    assert found.difference.low[moved] == pytest.approx(expected.confidence_interval().low[moved], abs=1e-3)
    step = (above - below)[:, moved]
    assert found.standardised[moved] == pytest.approx(step.mean(0) / step.std(0, ddof=1), rel=1e-2, abs=1e-3)
    assert np.isnan(found.difference.p[~moved]).all()


def test_logit_effects_are_those_of_the_logit_lens(table: pd.DataFrame) -> None:
    model, dictionary = tiny("llama"), made()
    effects = torch.stack([lens_logits(model, row) for row in dictionary.decoder]).numpy()
    order = np.argsort(-effects, axis=1)
    found = logit_effects(model, dictionary, k=3, chunk=7)
    assert np.array_equal(found.promoted, order[:, :3]) and np.array_equal(found.demoted, order[:, :-4:-1])
    assert found.promoted_effects == pytest.approx(np.take_along_axis(effects, order[:, :3], 1), abs=1e-4)
    assert found.kurtosis == pytest.approx(stats.kurtosis(effects, axis=1), abs=1e-3)
    squared = (effects - effects.mean(1, keepdims=True)) ** 2
    ends = np.take_along_axis(squared, np.concatenate([order[:, :3], order[:, -3:]], 1), 1).sum(1)
    assert found.share == pytest.approx(ends / squared.sum(1), abs=1e-5)
    assert table.promoted[5] == [model.tokenizer.decode([t]) for t in order[5, :3]]
    few = logit_effects(model, dictionary, [9, 4], k=2)
    assert np.array_equal(few.promoted, order[[9, 4], :2])


def test_a_latent_that_is_never_active_keeps_its_row(table: pd.DataFrame) -> None:
    assert list(table.index) == list(range(LATENTS)) and table.index.name == "latent"
    assert table.density[0] == 0 and table.peak[0] == 0 and 0 < table.density_high[0] < 0.2
    for score in ("reason_score", "auroc_checking", "correctness", "thinking_difference", "mean_active"):
        assert np.isnan(table[score][0]) and table[score][1:].notna().any(), score


def test_q_values_are_benjamini_and_hochbergs_over_the_latents_tested(table: pd.DataFrame) -> None:
    for score in ("reason_score", "auroc_guessing", "correctness", "thinking_difference"):
        p = table[f"{score}_p"].dropna()
        ranked = p.sort_values()
        by_hand = (ranked * len(p) / np.arange(1, len(p) + 1))[::-1].cummin()[::-1].clip(upper=1.0)
        assert len(p) > 30
        assert table[f"{score}_q"][by_hand.index].to_numpy() == pytest.approx(by_hand.to_numpy())
        assert table[f"{score}_q"].isna().equals(table[f"{score}_p"].isna())


def test_the_table_does_not_depend_on_batches_and_says_what_was_read(table: pd.DataFrame) -> None:
    again = score_table(
        tiny("llama"), made(), corpus(), vocabulary=Vocabulary(("w20", "w33")), thinking=tiny("qwen2"), logit_tokens=3,
        groups=6, batch_size=23,
    )  # fmt: skip
    numbers = table.select_dtypes("number").columns
    assert len(numbers) > 40
    pd.testing.assert_frame_equal(table[numbers], again[numbers], rtol=1e-4, atol=1e-5)
    assert table.attrs["dictionary"] == made().digest and table.attrs["model"] == tiny("llama").fingerprint
    assert table.attrs["texts"] == 23 and table.attrs["groups"] == 6 and table.attrs["seed"] is None
    other = score_table(tiny("llama"), made(), [*corpus()[:-1], replace(corpus()[-1], prompt=5)])
    assert other.attrs["corpus"] != table.attrs["corpus"] == again.attrs["corpus"]


def test_nothing_that_is_held_grows_with_the_corpus() -> None:
    model, dictionary, texts = tiny("llama"), made(), corpus(60)

    def held(of: Any, seen: set[int]) -> int:
        if id(of) in seen or isinstance(of, (LoadedModel, Dictionary, Text)):
            return 0
        seen.add(id(of))
        if isinstance(of, torch.Tensor):
            return of.untyped_storage().nbytes()
        parts = of if isinstance(of, (list, tuple)) else vars(of).values() if hasattr(of, "__dict__") else ()
        return sum(held(part, seen) for part in parts)

    seen = ScorePass(model, dictionary, texts, vocabulary=Vocabulary(("w20", "w33")))
    sizes = []
    for batch in encoded(model, dictionary, texts, batch_size=6):
        seen.add(batch)
        sizes.append(held(seen, set()))
    assert len(sizes) == 10 and len(set(sizes)) == 1 and sizes[0] > 5e5


def test_scores_are_there_when_what_they_need_is_given() -> None:
    model, dictionary = tiny("llama"), made()
    plain = [Text(text.ids) for text in corpus()]
    bare = score_table(model, dictionary, plain)
    assert set(bare.columns) == {
        "density",
        "density_low",
        "density_high",
        "mean",
        "mean_low",
        "mean_high",
        "mean_active",
        "peak",
    }
    reading = Reading.last_token([t.ids for t in plain])
    paired = score_table(model, dictionary, plain, pairs=(reading, Reading.at([t.ids for t in plain], (3,))))
    assert set(paired.columns) - set(bare.columns) == {
        "cot_difference", "cot_difference_low", "cot_difference_high", "cot_difference_p", "cot_difference_q", "cot_standardised",
    }  # fmt: skip
    assert paired.attrs["pairs"][0] == reading.digest
    few = score_table(model, dictionary, plain[:1])
    assert few.density.notna().all() and few.density_low.isna().all(), "one text has no interval"


def test_candidates_are_the_largest_of_those_above_the_null() -> None:
    table = pd.DataFrame(
        {
            "auroc_a": [0.9, 0.8, 0.4, 0.7, np.nan],
            "auroc_a_q": [0.2, 0.01, 0.001, 0.04, np.nan],
            "density": [0.1, 0.3, 0.0, 0.2, 0.0],
        }
    )
    assert candidates(table, "auroc_a", 5) == [1, 3]
    assert candidates(table, "auroc_a", 1) == [1] and candidates(table, "auroc_a", 5, q=0.5) == [0, 1, 3]
    assert candidates(table, "density", 2) == [1, 3]
    with pytest.raises(BadInput, match="Did you mean 'auroc_a'"):
        candidates(table, "auroc_b", 3)
    with pytest.raises(BadInput, match="n 0"):
        candidates(table, "density", 0)


def test_what_cannot_be_scored_is_refused() -> None:
    model, dictionary, texts = tiny("llama"), made(), corpus()
    for texts_given, message in (
        ([], "no texts"),
        ([Text((1, 2, 1))], "special tokens only"),
        ([replace(t, correct=True) for t in texts], "Every text with a known answer is right"),
        (
            [replace(t, spans=t.spans[:1] and (replace(t.spans[0], label="a"),)) for t in texts],
            "telling them apart needs two",
        ),
        ([Text((1, 9, 10), correct=i > 0) for i in range(3)], "at least 4"),
    ):
        with pytest.raises(BadInput, match=message):
            score_table(model, dictionary, texts_given)
    with pytest.raises(BadInput, match="groups 1"):
        score_table(model, dictionary, texts, groups=1)
    reading = Reading.last_token([t.ids for t in texts])
    for pairs, message in (
        ((reading, reading.take([0])), "the i-th of each side"),
        ((reading, Reading.all_tokens([t.ids for t in texts])), "Sequence 0 of the direct side is read at"),
    ):
        with pytest.raises(BadInput, match=message):
            paired_difference(model, dictionary, *pairs)
    with pytest.raises(BadInput, match="Latent 40 does not exist"):
        logit_effects(model, dictionary, [40])
    head = StandardSAE(StandardSAEConfig(d_in=8, d_sae=20, device="cpu"))
    with pytest.raises(BadInput, match="before the output projection"):
        logit_effects(model, Dictionary("on a head", head, Site(1, "z", 0)))


def test_logit_effects_name_tokens_alone() -> None:
    model, dictionary = load_model("builtin:base"), load_dictionary("builtin:base")
    found = logit_effects(model, dictionary, latents=range(64), k=8)
    known = len(model.tokenizer)
    assert found.promoted.max() < known and found.demoted.max() < known
