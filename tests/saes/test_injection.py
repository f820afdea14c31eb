"""Token injection on planted latents: one that reads a token, one that reads a pair of tokens, and two that read the place."""

from __future__ import annotations

import math
import random
from collections import defaultdict

import numpy as np
import pytest
import torch

from saes.corpus import Text
from saes.dictionary import Dictionary
from saes.injection import (
    CONTEXT,
    UNTESTED,
    Injection,
    InjectionEffect,
    Variant,
    cohens_d,
    injected,
    injection_effects,
    top_ngrams,
)
from saes.scores import score_table
from steering.errors import BadInput
from steering.model.models import LoadedModel
from tests.saes.context_model import context_model, reader
from tests.tiny import VOCABULARY, tokenizer

TOKEN, FIRST, SECOND = 20, 30, 31
LATENTS = {"token": 0, "pair": 1, "place": 2, "dead": 3}


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return context_model(tokenizer())


@pytest.fixture(scope="module")
def dictionary(model: LoadedModel) -> Dictionary:
    rng = random.Random(0)
    noise = {token: rng.random() * 0.3 for token in range(3, VOCABULARY)}
    return reader(
        model,
        [
            ({TOKEN: 1.0}, noise, 0.1, -0.4),
            ({SECOND: 1.0, **{t: v for t, v in noise.items() if t != SECOND}}, {FIRST: 1.0}, 0.1, -1.45),
            (noise, {}, 2.0, -1.2),
            ({}, {}, 0.0, -10.0),
        ],
    )


def corpus() -> list[Text]:
    """Long texts in which the token and the pair occur now and then."""
    rng = random.Random(1)
    texts = []
    for _ in range(30):
        ids = [rng.choice([t for t in range(8, VOCABULARY) if t not in (TOKEN, FIRST, SECOND)]) for _ in range(90)]
        for start in range(5, 85, 16):
            ids[start] = TOKEN
            ids[start + 4 : start + 6] = FIRST, SECOND
            ids[start + 9], ids[start + 12] = FIRST, SECOND  # never enough by themselves
        texts.append(Text((1, *ids)))
    return texts


def originals() -> list[tuple[int, ...]]:
    rng = random.Random(2)
    plain = [t for t in range(8, VOCABULARY) if t not in (TOKEN, FIRST, SECOND)]
    return [(1, *(rng.choice(plain) for _ in range(25))) for _ in range(24)]


@pytest.fixture(scope="module")
def found(model: LoadedModel, dictionary: Dictionary) -> Injection:
    return injection_effects(model, dictionary, list(LATENTS.values()), corpus(), originals(), seed=3)


def effect(found: Injection, name: str) -> InjectionEffect:
    return found.effects[LATENTS[name]]


def test_a_token_detector_is_token_driven(found: Injection) -> None:
    token = effect(found, "token")
    assert token.kind == "token-driven" and token.largest is not None
    assert token.variants[0].ngrams == ((TOKEN,),), "nothing else sets it off"
    assert all(v.d > 2 and 0.8 < v.low < v.d < v.high and v.p < 1e-3 for v in token.variants)


def test_a_pair_detector_is_found_by_its_pair_and_not_by_its_tokens(found: Injection) -> None:
    unigrams, bigrams, trigrams = effect(found, "pair").variants
    assert unigrams.ngrams == ((SECOND,),) and bigrams.ngrams == ((FIRST, SECOND),)
    assert unigrams.d == 0.0 and bigrams.d > 0.8 and trigrams.ngrams[0][1:] == (FIRST, SECOND)
    assert effect(found, "pair").kind == "token-driven"


def test_a_latent_that_reads_the_place_depends_on_context(found: Injection) -> None:
    place = effect(found, "place")
    assert len(place.variants) == 3 and len(place.variants[0].ngrams) == 3
    assert place.kind == CONTEXT and all(v.d == 0.0 for v in place.variants)


def test_a_silent_latent_is_untested(found: Injection) -> None:
    assert effect(found, "dead").variants == () and effect(found, "dead").kind == UNTESTED
    assert math.isnan(effect(found, "dead").p)


def test_effects_are_those_of_injecting_by_hand(model: LoadedModel, dictionary: Dictionary, found: Injection) -> None:
    def peak(ids: tuple[int, ...], latent: int) -> float:
        rows = torch.zeros(len(ids), model.d_model)
        for place, token in enumerate(ids):
            rows[place, token] = 1.0
            rows[place, VOCABULARY + ids[place - 1]] = float(place > 0)
            rows[place, -1] = place / 100
        return max(0.0, float(dictionary.encode(rows[1:])[:, latent].max()))

    for name in ("token", "pair"):
        for variant in effect(found, name).variants:
            after = [peak(injected(ids, variant.ngrams, f"3/{i}"), LATENTS[name]) for i, ids in enumerate(originals())]
            before = [peak(ids, LATENTS[name]) for ids in originals()]
            assert variant.d == pytest.approx(cohens_d(np.array(after), np.array(before))[0], abs=1e-5)


def test_effects_do_not_depend_on_batches_and_do_on_the_seed(model: LoadedModel, dictionary: Dictionary) -> None:
    ways = [(0, 1), (0, 7), (1, 7)]
    a, b, c = (
        injection_effects(model, dictionary, [0], corpus(), originals(), seed=s, batch_size=n).effects[0]
        for s, n in ways
    )
    assert [v.d for v in a.variants] == pytest.approx([v.d for v in b.variants])
    assert [v.d for v in a.variants] != [v.d for v in c.variants]


def test_ngrams_go_in_whole_and_nothing_else_changes() -> None:
    ngrams, text = ((40, 41), (50, 51, 52), (60,)), tuple(range(1, 20))
    places = set()
    for seed in range(200):
        whole = injected(text, ngrams, str(seed))
        assert [t for t in whole if t < 40] == list(text) and whole[0] == 1
        joined = " ".join(map(str, whole))
        assert "40 41" in joined and "50 51 52" in joined and " 60" in joined and len(whole) == len(text) + 6
        places.add(whole.index(60))
    assert len(places) > 15 and injected(text, ngrams, "5") == injected(text, ngrams, "5")


def test_top_ngrams_equal_a_count_by_hand(model: LoadedModel) -> None:
    rng = random.Random(5)
    weights = [{t: rng.random() for t in range(8, 20)} for _ in range(3)]
    dictionary = reader(model, [(own, {t: v / 2 for t, v in own.items()}, 0.0, -0.3) for own in weights])
    texts = [Text((1, *(rng.randrange(8, 20) for _ in range(60)), 2)) for _ in range(12)]
    found = top_ngrams(model, dictionary, [2, 0], texts, minimum=3, batch_size=5)
    for latents, lists in zip((2, 0), found, strict=True):
        own = weights[latents]
        for n, count in ((1, 3), (2, 2), (3, 1)):
            seen: dict[tuple[int, ...], list[float]] = defaultdict(list)
            for text in texts:
                for end in range(n, len(text.ids) - 1):
                    ngram = text.ids[end - n + 1 : end + 1]
                    u = own.get(text.ids[end], 0.0) + own.get(text.ids[end - 1], 0.0) / 2 - 0.3
                    seen[ngram].append(max(0.0, u))
            means = {ngram: np.mean(v) for ngram, v in seen.items() if len(v) >= 3}
            best = sorted(means.values(), reverse=True)[:count]
            assert [means[ngram] for ngram in lists[n - 1]] == pytest.approx(best, abs=1e-6), (latents, n)


def test_a_small_capacity_still_finds_what_is_frequent(model: LoadedModel, dictionary: Dictionary) -> None:
    (lists,) = top_ngrams(model, dictionary, [LATENTS["pair"]], corpus(), capacity=300, batch_size=2)
    assert lists[1] == ((FIRST, SECOND),), "150 occurrences among two thousand bigrams that occur once or twice"


def test_cohens_d_and_its_interval() -> None:
    d, low, high, p = cohens_d(np.array([3.0, 5.0, 7.0]), np.array([1.0, 2.0, 3.0, 2.0]))
    pooled = math.sqrt((8 + 2) / 5)  # squared deviations 8 and 2 over 2 + 3 degrees of freedom
    assert d == pytest.approx(3 / pooled)
    error = math.sqrt(7 / 12 + d**2 / 14)
    assert (low, high) == pytest.approx((d - 1.959964 * error, d + 1.959964 * error), abs=1e-5)
    assert p == pytest.approx(math.erfc(d / error / math.sqrt(2)))
    alike, zero = np.ones(4), np.zeros(4)
    assert cohens_d(alike, zero)[0] == math.inf and cohens_d(zero, zero)[0] == 0.0


@pytest.mark.parametrize(
    ("d", "kind"),
    [(0.8, "token-driven"), (0.79, "partially token-driven"), (0.5, "partially token-driven"),
     (0.49, "weakly token-driven"), (0.2, "weakly token-driven"), (0.19, CONTEXT), (-2.0, CONTEXT)],
)  # fmt: skip
def test_the_class_goes_by_the_largest_variant(d: float, kind: str) -> None:
    variants = tuple(
        Variant(((5,) * n,), value, 0.0, 1.0, p) for n, value, p in ((1, -3.0, 0.5), (2, d, 0.02), (3, -2.5, 0.9))
    )
    found = InjectionEffect(0, variants)
    assert found.kind == kind and found.p == pytest.approx(0.06)


def test_the_table_shows_every_variant_and_the_class(
    model: LoadedModel, dictionary: Dictionary, found: Injection
) -> None:
    table = score_table(model, dictionary, corpus(), injection=found)
    assert list(table.injection_class) == ["token-driven", "token-driven", CONTEXT, UNTESTED]
    pair = effect(found, "pair")
    assert [table.injection_unigram[1], table.injection_bigram[1]] == [v.d for v in pair.variants[:2]]
    assert pair.largest is not None and table.injection[1] == pair.largest.d and table.injection_p[1] == pair.p
    assert table.attrs["seed"] == 3 and np.isnan(table.injection[3])


def test_what_cannot_be_injected_is_refused(model: LoadedModel, dictionary: Dictionary, found: Injection) -> None:
    with pytest.raises(BadInput, match="Latent 9 does not exist"):
        injection_effects(model, dictionary, [9], corpus(), originals())
    with pytest.raises(BadInput, match="No latent is named"):
        injection_effects(model, dictionary, [], corpus(), originals())
    with pytest.raises(BadInput, match="at least two texts of 1 to 252 tokens"):
        injection_effects(model, dictionary, [0], corpus(), [(1, *([9] * 252))] * 2)
    other = reader(model, [({TOKEN: 1.0}, {}, 0.0, 0.0)])
    with pytest.raises(BadInput, match="through autoencoder"):
        score_table(model, other, corpus(), injection=found)
