"""ReasonScore against numbers worked out by hand and a naive implementation token by token."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from scipy import stats
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from saes.corpus import Text
from saes.dictionary import Dictionary
from saes.reason_score import WORDS, Vocabulary, reason_scores, token_pieces
from saes.scores import score_table
from steering.errors import BadInput
from steering.model.hooks import hooked
from steering.model.models import LoadedModel, load_model
from tests.saes.context_model import context_model, reader
from tests.saes.test_features import SITE, random_sae
from tests.tiny import VOCABULARY, tiny, tokenizer

WAIT, HMM = 7, 8


@pytest.fixture(scope="module")
def bytes_model() -> LoadedModel:
    """A model with a byte-level tokenizer that cuts rare words into pieces."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    core.train_from_iterator(["wait wait Wait but But let me another the waiter thinks about butter"] * 20, trainer)
    return context_model(PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<bos>", eos_token="<eos>"))


def test_the_score_equals_one_worked_out_by_hand() -> None:
    """bos a wait b c d hmm e f g: one token before and one after; tokens of `wait` 1-3, of `hmm` 5-7, of neither 4, 8, 9 (bos is special).

    mu            around wait        around hmm         R                  elsewhere
    latent 0      (1+4+1)/3 = 2      (0+3+0)/3 = 1      (6+3)/6 = 1.5      (0+0+3)/3 = 1
    latent 1      (0+3+0)/3 = 1      0                  3/6 = 0.5          (1+2+6)/3 = 3
    latent 2      0                  0                  0                  (0+0+0)/3 = 0
    shares        latent 0: 1.5/2 = 0.75 of R, 1/4 of the rest; latent 1: 0.25 and 3/4
    H             latent 0: p = 2/3, 1/3, H = 0.9182958; latent 1: p = 1, 0, H = 0; latent 2: p undefined, H = 0
    s             latent 0: 0.75 * 0.9182958^0.7 - 0.25 = 0.4566; latent 1: 0 - 0.75; latent 2: 0
    """
    model = context_model(tokenizer())
    a, b, c, d, e, f, g = range(20, 27)
    dictionary = reader(
        model,
        [
            ({a: 1.0, WAIT: 4.0, b: 1.0, HMM: 3.0, g: 3.0}, {}, 0.0, 0.0),
            ({WAIT: 3.0, c: 1.0, f: 2.0, g: 6.0}, {}, 0.0, 0.0),
            ({}, {}, 0.0, 0.0),
        ],
    )
    vocabulary = Vocabulary(("wait", "w8"), before=1, after=1)
    text = Text((1, a, WAIT, b, c, d, HMM, e, f, g))
    table = score_table(model, dictionary, [text, text], vocabulary=vocabulary)
    expected = 0.75 * (math.log(3) - 2 / 3 * math.log(2)) ** 0.7 / math.log(2) ** 0.7 - 0.25
    assert expected == pytest.approx(0.4566, abs=1e-4)
    assert list(table.reason_score[:2]) == pytest.approx([expected, -0.75])
    assert list(table.reason_entropy[:2]) == pytest.approx([0.9182958, 0.0])
    assert np.isnan(table.reason_score[2]), "never active on these texts"


def test_decoder_norms_are_folded_into_activations() -> None:
    norms, sums = torch.tensor([1.0, 3.0]), torch.tensor([[3.0, 0.0], [3.0, 2.0], [6.0, 2.0], [7.0, 2.0]])
    scores, _ = reason_scores(sums, torch.tensor([3.0, 3.0, 6.0, 9.0]), norms, alpha=0.0)
    assert scores.tolist() == pytest.approx([0.5 - 1.0, 0.5]), "shares of R are 6 and 2 * 3"


Read = list[tuple[Text, np.ndarray]]


def naive_scores(texts: Read, words: tuple[int, ...], window: tuple[int, int]) -> np.ndarray:
    """Token by token, from activations `[positions, latents]` with decoder norms in them; a word is one id."""
    near: dict[int, list[np.ndarray]] = {word: [] for word in words}
    inside: list[np.ndarray] = []
    outside: list[np.ndarray] = []
    for text, z in texts:
        for place, token in enumerate(text.ids):
            if token in (0, 1, 2):
                continue
            around = text.ids[max(0, place - window[1]) : place + window[0] + 1]
            for word in words:
                if word in around:
                    near[word].append(z[place])
            (inside if set(words) & set(around) else outside).append(z[place])
    mu = [np.mean(values, axis=0) for values in near.values() if values]
    r, rest = np.mean(inside, axis=0), np.mean(outside, axis=0)
    scores = []
    for i in range(len(r)):
        whole = sum(m[i] for m in mu)
        p = [m[i] / whole for m in mu] if whole else []
        h = -sum(x * math.log(x) for x in p if x > 0) / math.log(len(mu)) if p else 0.0
        scores.append(r[i] / r.sum() * h**0.7 - rest[i] / rest.sum())
    return np.array(scores)


def read(model: LoadedModel, dictionary: Dictionary, text: Text) -> np.ndarray:
    seen: list[torch.Tensor] = []
    with torch.no_grad(), hooked(model.layout, {dictionary.site: lambda x: seen.append(x[0].clone())}):
        model.model(input_ids=torch.tensor([text.ids]))
    return (dictionary.encode(seen[0]) * dictionary.norms).double().numpy()


@pytest.mark.parametrize("window", [(2, 3), (1, 2), (0, 4)])
def test_scores_and_intervals_equal_the_naive_ones(window: tuple[int, int]) -> None:
    rng, model = random.Random(0), tiny("llama")
    dictionary = Dictionary("random", random_sae("jumprelu"), SITE)
    words = (WAIT, 20, 33)
    texts = [
        Text((1, *(rng.choice([*range(8, VOCABULARY), *words * 4]) for _ in range(rng.randint(3, 40)))))
        for _ in range(13)
    ]
    vocabulary = Vocabulary(("wait", "w20", "w33", "never"), *window)
    table = score_table(model, dictionary, texts, vocabulary=vocabulary, groups=5, batch_size=4)
    known = [(text, read(model, dictionary, text)) for text in texts]
    whole = naive_scores(known, words, window)
    without = np.stack([naive_scores([t for i, t in enumerate(known) if i % 5 != g], words, window) for g in range(5)])
    alive = (table.density > 0).to_numpy()
    assert table.reason_score[alive].to_numpy() == pytest.approx(whole[alive], abs=1e-6)
    error = np.sqrt(4 / 5 * ((without - without.mean(0)) ** 2).sum(0))
    alive = alive & (error > 0)
    assert alive.sum() > 30
    reach = stats.t.ppf(0.975, 4) * error
    assert table.reason_score_low[alive].to_numpy() == pytest.approx((whole - reach)[alive], abs=1e-6)
    p = 2 * stats.t.sf(abs(whole[alive] / error[alive]), 4)
    assert table.reason_score_p[alive].to_numpy() == pytest.approx(p, rel=1e-3, abs=1e-9)
    assert table.attrs["window_tokens"]["never"] == 0


TEXT = "Wait. But let me think, but  Let\nme wait: another waiter. Another WAIT awaits; alternatively, butter"


def test_words_are_found_as_the_text_spells_them(bytes_model: LoadedModel) -> None:
    ids = bytes_model.tokenizer(TEXT)["input_ids"]
    assert "".join(token_pieces(bytes_model, ids)) == TEXT
    found = dict(zip(WORDS, Vocabulary().occurrences(bytes_model, ids), strict=True))
    spelt = {
        word: [bytes_model.tokenizer.decode(ids[a:b]).strip() for a, b in spans]
        for word, spans in found.items()
        if spans
    }
    assert spelt == {
        "wait": ["Wait", "wait", "WAIT"],
        "let me": ["let me", "Let\nme"],
        "But": ["But"],
        "Another": ["Another"],
        "alternatively": ["alternatively"],
    }, "`but` and `another` count with a capital only; `waiter`, `awaits` and `butter` are other words"
    assert max(b - a for spans in found.values() for a, b in spans) > 5, "a word cut into many tokens"


def test_windows_reach_from_the_first_to_the_last_token_of_an_occurrence(bytes_model: LoadedModel) -> None:
    ids = bytes_model.tokenizer("about the waiter let me wait the butter about the waiter thinks")["input_ids"]
    vocabulary = Vocabulary(("let me", "wait"), before=2, after=3)
    (start, end), (second, last) = (spans[0] for spans in vocabulary.occurrences(bytes_model, ids))
    assert second == end and last == second + 1 and len(ids) > last + 5
    expected = torch.zeros(3, len(ids))
    expected[0, start - 2 : end + 3] = 1
    expected[1, second - 2 : last + 3] = 1
    expected[2, start - 2 : last + 3] = 1
    assert torch.equal(vocabulary.windows(bytes_model, ids), expected)
    edge = vocabulary.windows(bytes_model, ids[start:last])
    assert edge.shape == (3, last - start) and bool((edge == 1).all()), "cut at the ends"


def test_words_of_the_built_in_pair_are_found() -> None:
    model = load_model("builtin:base")
    ids = model.tokenizer("hmm try 25 + 9 = 34 no wait let us check maybe 42 let us answer 42")["input_ids"]
    vocabulary = Vocabulary(("hmm", "wait", "let us", "no", "answer", "?"))
    found = vocabulary.occurrences(model, ids)
    assert [[model.tokenizer.decode(ids[a:b]) for a, b in spans] for spans in found] == [
        ["hmm"], ["wait"], ["let us", "let us"], ["no"], ["answer"], [],
    ]  # fmt: skip


def test_what_cannot_be_scored_is_refused() -> None:
    model = context_model(tokenizer())
    dictionary = reader(model, [({20: 1.0}, {}, 0.0, 0.0)])
    for words in (("wait",), ("wait", "wait"), ("wait", " ")):
        with pytest.raises(BadInput, match="at least two different words"):
            Vocabulary(words)
    with pytest.raises(BadInput, match="window of -1 tokens"):
        Vocabulary(before=-1)
    with pytest.raises(BadInput, match=r"the texts hold \['wait'\]; ReasonScore needs two"):
        score_table(model, dictionary, [Text((1, WAIT, *range(20, 40)))], vocabulary=Vocabulary())
    with pytest.raises(BadInput, match="Every token"):
        score_table(model, dictionary, [Text((1, WAIT, 20, HMM))], vocabulary=Vocabulary(("wait", "w8")))
