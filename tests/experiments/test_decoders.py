"""Decoders: CoT-decoding against a naive reference, power sampling against the enumerated target, choices on hand cases."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from experiments.decoders.candidates import Answered, Asked, Candidate, answer_place, decoded, votes
from experiments.decoders.forcing import BudgetForcing
from experiments.decoders.named import KINDS, decoder_named
from experiments.decoders.paths import CotDecoding, confidence
from experiments.decoders.power import PowerSampling, sampled
from experiments.decoders.samples import Samples
from experiments.decoders.suppression import Suppression, first_tokens
from steering.engine.generation import Generation, Receipt, Row, generate
from steering.engine.penalty import Penalty
from steering.engine.predicted import with_every_number
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.model.models import LoadedModel, wrap
from steering.plan.plan import Plan
from tests.naive import naive_logits
from tests.tiny import VOCABULARY, plan, tiny


def asked(model: LoadedModel, ids: tuple[int, ...], own: Plan = Plan(), seed: int = 0) -> Asked:  # noqa: B008
    """A question whose answer is the last word that is written, if it is one of the upper half of the vocabulary."""

    def answered(generation: Generation) -> Answered:
        words = [token for token in generation.token_ids if token not in model.eos_ids]
        text = model.tokenizer.decode(words)
        found = text.split()[-1] if words and words[-1] > VOCABULARY // 2 else None
        return Answered(text, found, False)

    return Asked(ids, own, seed, answered, lambda a, b: a == b)


def naive_paths(
    model: LoadedModel, ids: tuple[int, ...], own: Plan, k: int, new: int
) -> list[tuple[list[int], list[torch.Tensor]]]:
    """Every path's tokens and the distribution that each came from, one whole forward pass per token."""
    start = len(ids)
    first = naive_logits(model, [*ids], own, start)[-1].softmax(-1)
    paths = []
    for token in first.topk(k).indices.tolist():
        text, from_ = [token], [first]
        while len(text) < new and text[-1] not in model.eos_ids:
            predicted = naive_logits(model, [*ids, *text], own, start)[-1].softmax(-1)
            text.append(int(predicted.argmax()))
            from_.append(predicted)
        paths.append((text, from_))
    return paths


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("steered", [False, True])
def test_cot_decoding_equals_a_naive_reference_token_for_token(name: str, steered: bool) -> None:
    model, spec = tiny(name), CotDecoding(k=6, cue="w9 w10", answer_tokens=3)
    own = plan(span="last_prompt", amount=2.0) if steered else Plan()
    questions = [(1, 9, 11, 20), (1, 12), (1, 30, 31, 9, 9)]
    found = spec.candidates(model, [asked(model, ids, own) for ids in questions], GenerationSettings(6), 8)
    cued = compared = 0
    for ids, candidates in zip(questions, found, strict=True):
        for (text, from_), one in zip(naive_paths(model, ids, own, 6, 6), candidates, strict=True):
            answer = (
                asked(model, ids)
                .answered(Generation(ids, tuple(text), "eos", (), (), (), (), one.generation.receipt))
                .answer
            )
            body = [token for token in text if token not in model.eos_ids]
            if answer is None:
                cued += 1
                assert list(one.generation.token_ids[: len(body) + 2]) == [*body, 9, 10]
                more = [*body, 9, 10]
                while len(more) < len(body) + 5 and more[-1] not in model.eos_ids:
                    more.append(int(naive_logits(model, [*ids, *more], own, len(ids))[-1].argmax()))
                assert list(one.generation.token_ids) == more
                continue
            assert list(one.generation.token_ids) == text
            at = max(n for n, token in enumerate(text) if token not in model.eos_ids)
            top = from_[at].topk(2).values
            assert one.score == pytest.approx(float(top[0] - top[1]), abs=1e-4)
            logprob = sum(math.log(float(p[token])) for p, token in zip(from_, text, strict=True))
            assert one.logprob == pytest.approx(logprob, abs=1e-3)
            compared += 1
    assert compared > 3 and cued > 0


def made(tokens: tuple[int, ...], gaps: list[float], logprob: float = -0.1) -> Generation:
    """A text whose two likeliest tokens differ by `gaps` in probability."""
    top: list[float] = []
    for gap in gaps:
        top += [math.log((1 + gap) / 2), math.log((1 - gap) / 2), -9.0, -9.0, -9.0]
    n = len(tokens)
    return Generation((1,), tokens, "eos", (logprob,) * n, (0.0,) * n, (0,) * (5 * n), tuple(top), Receipt(0, 0, ()))


def test_confidence_is_of_the_answers_tokens_alone() -> None:
    model = tiny("llama")
    sure_of_all_but_the_answer = made((9, 10, 11, 40, 2), [0.9, 0.9, 0.9, 0.1, 0.9])
    sure_of_the_answer = made((9, 10, 11, 41, 2), [0.1, 0.1, 0.1, 0.8, 0.1])
    found = [confidence(model, g, a) for g, a in ((sure_of_all_but_the_answer, "w40"), (sure_of_the_answer, "w41"))]
    assert found == [pytest.approx(0.1), pytest.approx(0.8)]
    over_all = [np.mean([0.9, 0.9, 0.9, 0.1, 0.9]), np.mean([0.1, 0.1, 0.1, 0.8, 0.1])]
    assert over_all[0] > over_all[1], "the average over all tokens would choose the other path"
    assert confidence(model, sure_of_the_answer, "w50") is None
    assert answer_place(model, (40, 9, 40), "w40") == (2, 3)


def candidate(answer: str | None, score: float | None, logprob: float = -1.0, tokens: int = 2) -> Candidate:
    return Candidate(made((9,) * tokens, [0.5] * tokens, logprob), Answered(answer or "", answer, False), score, tokens)


def test_aggregation_sums_the_paths_of_one_answer_and_max_does_not() -> None:
    model = tiny("llama")
    paths = [candidate("7", 0.3), candidate("8", 0.5), candidate("7", 0.4), candidate(None, None)]
    question = asked(model, (1,))
    assert CotDecoding(choose_by="max").choose(paths, question)[0] == 1
    assert CotDecoding(choose_by="aggregated").choose(paths, question) == (
        2,
        [pytest.approx(0.7), 0.5, pytest.approx(0.7), None],
    )
    assert CotDecoding(choose_by="greedy").choose(paths, question)[0] == 0
    likely = [candidate("7", 0.3, -2.0, 1), candidate("8", 0.5, -0.9, 3)]
    assert CotDecoding(choose_by="logprob").choose(likely, question)[0] == 0
    assert CotDecoding(choose_by="normalised").choose(likely, question)[0] == 1
    assert CotDecoding(choose_by="max").choose([candidate(None, None)] * 2, question)[0] == 0


def test_a_vote_counts_equal_answers_and_a_tie_goes_to_the_first() -> None:
    question = asked(tiny("llama"), (1,))
    paths = [
        candidate("1", None, -3.0),
        candidate("2", None),
        candidate(None, None),
        candidate("1", None, -1.0),
        candidate("2", None),
    ]
    assert votes(paths, question.same) == [[0, 3], [1, 4]]
    assert Samples(choose_by="majority").choose(paths, question) == (3, [2.0, 2.0, 0.0, 2.0, 2.0])
    assert Samples(choose_by="first").choose(paths, question)[0] == 0
    row = decoded(paths, 3, [2.0, 2.0, 0.0, 2.0, 2.0], Samples().spent(paths))
    assert Samples(choose_by="first").spent(paths) == 2
    assert (row.spent, row.token_ids, [c["chosen"] for c in row.candidates]) == (
        10,
        (9, 9),
        [False, False, False, True, False],
    )


def toy(spread: float = 6.0) -> LoadedModel:
    """Four tokens, the first of which ends a text."""
    words = {"<eos>": 0, "a": 1, "b": 2, "c": 3}
    core = Tokenizer(models.WordLevel(words, unk_token="<eos>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>")
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=4, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=16,
        eos_token_id=0, bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(spread)
    return wrap(model, tokenizer, "toy")


def target(model: LoadedModel, length: int, exponent: float) -> dict[tuple[int, ...], float]:
    """p^a over all texts of at most `length` tokens, those that end early among them, normalised."""
    found = {}
    for size in range(1, length + 1):
        for text in itertools.product(range(4), repeat=size):
            if 0 in text[:-1] or (size < length and text[-1] != 0):
                continue
            logits = naive_logits(model, [1, *text], Plan(), 1)
            logprob = sum(float(logits[i].log_softmax(-1)[t]) for i, t in enumerate(text))
            found[text] = math.exp(exponent * logprob)
    total = sum(found.values())
    return {text: weight / total for text, weight in found.items()}


def distance(found: list[tuple[int, ...]], expected: dict[tuple[int, ...], float]) -> float:
    """p of a chi-square test; texts that are expected fewer than five times are one bin."""
    counts = {text: found.count(text) for text in expected}
    assert sum(counts.values()) == len(found)
    often = [text for text, p in expected.items() if p * len(found) >= 5]
    seen, wanted = [counts[t] for t in often], [expected[t] * len(found) for t in often]
    rest = len(found) - sum(seen), len(found) - sum(wanted)
    if rest[1] > 1:
        seen, wanted = [*seen, rest[0]], [*wanted, rest[1]]
    return float(stats.chisquare(seen, np.array(wanted) * sum(seen) / sum(wanted)).pvalue)


def test_power_sampling_draws_from_the_powered_distribution_and_low_temperature_does_not() -> None:
    model, exponent, n = toy(), 1.5, 700
    expected = target(model, 3, exponent)
    questions = [asked(model, (1,), seed=seed) for seed in range(n)]
    spec = PowerSampling(exponent=exponent, block=2, steps=16)
    chains = sampled(model, questions, spec, GenerationSettings(3), n)
    assert distance([chain.text.token_ids for chain in chains], expected) > 0.001
    assert 0.1 < sum(c.taken for c in chains) / sum(c.proposed for c in chains) < 0.999
    assert 0 < sum(c.moved for c in chains) < sum(c.taken for c in chains)
    assert len({len(chain.text.token_ids) for chain in chains}) > 2
    cold = generate(
        model, [Row((1,), seed=s) for s in range(n)], GenerationSettings(3, temperature=1 / exponent), batch_size=n
    )
    assert distance([g.token_ids for g in cold], expected) < 1e-6


def test_at_exponent_one_every_proposal_is_taken_and_the_draws_are_the_models() -> None:
    model, n = toy(), 600
    questions = [asked(model, (1,), seed=seed) for seed in range(n)]
    chains = sampled(model, questions, PowerSampling(exponent=1.0, block=2, steps=3), GenerationSettings(4), n)
    assert all(chain.taken == chain.proposed for chain in chains) and sum(c.proposed for c in chains) > n
    assert distance([chain.text.token_ids for chain in chains], target(model, 4, 1.0)) > 0.001
    assert all(chain.spent >= len(chain.text.token_ids) for chain in chains) and any(c.spent > 8 for c in chains)


def test_a_penalty_follows_the_rule_of_the_paper_on_a_hand_case() -> None:
    tip = Penalty((7,), strength=3.0, window=3)
    text = [9, 9, 9, 9, 7, 9, 9, 9]
    # psi is 0 until the switch at 4; the penalty holds while t < psi + 3
    assert [tip.applies(text[:t]) for t in range(9)] == [True, True, True, False, False, True, True, False, False]
    logits = torch.zeros(2, 10)
    weighed = tip.applied(logits, [text[:1], text[:4]])
    assert (
        weighed[0, 7] == -3.0
        and weighed[1, 7] == 0.0
        and float(weighed.abs().sum()) == 3.0
        and float(logits.sum()) == 0
    )
    assert Penalty((7,)).applied(logits, [[], []])[1, 7] == -math.inf


def test_suppressed_words_are_not_written_and_nothing_else_changes() -> None:
    model, question = tiny("llama"), asked(tiny("llama"), (1, 9, 11))
    settings = GenerationSettings(12)
    (plain,) = generate(model, [Row((1, 9, 11))], settings)
    word = model.tokenizer.decode([plain.token_ids[2]])
    spec = Suppression(words=(word,))
    ((hard,),) = spec.candidates(model, [question], settings, 4)
    assert plain.token_ids[2] not in hard.generation.token_ids
    kept = next(n for n, token in enumerate(plain.token_ids) if token == plain.token_ids[2])
    assert hard.generation.token_ids[:kept] == plain.token_ids[:kept]
    assert hard.generation.logprob[:kept] == pytest.approx(plain.logprob[:kept], abs=1e-5)
    ((soft,),) = Suppression(words=(word,), strength=1e-6).candidates(model, [question], settings, 4)
    assert soft.generation.token_ids == plain.token_ids
    assert first_tokens(model, word) == [plain.token_ids[2]]


def test_a_forced_word_stands_where_the_text_would_have_ended() -> None:
    model, settings = toy(), GenerationSettings(8, temperature=1.0)
    questions = [asked(model, (1,), seed=seed) for seed in range(40)]
    plain = generate(model, [Row((1,), seed=s) for s in range(40)], settings)
    forced = BudgetForcing(word="b").candidates(model, questions, settings, 40)
    seen = 0
    for before, (after,) in zip(plain, forced, strict=True):
        if before.finish == "eos" and len(before.token_ids) < 8:
            cut = len(before.token_ids) - 1
            assert (
                after.generation.token_ids[: cut + 1] == (*before.token_ids[:-1], 2)
                and len(after.generation.token_ids) > cut + 1
            )
            assert after.generation.logprob[:cut] == pytest.approx(before.logprob[:cut], abs=1e-5)
            seen += 1
        else:
            assert after.generation.token_ids == before.token_ids
    assert seen > 10


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"kind": "cot"}, "cot-decoding"),
        ({"kind": "cot-decoding", "k": 0}, "decoder.cot-decoding.k"),
        ({"kind": "samples", "temperature": 0}, "decoder.samples.temperature"),
        ({"kind": "power-sampling", "alpha": 4}, "decoder.power-sampling.alpha"),
    ],
)
def test_wrong_decoders_are_refused_by_name(facts: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        decoder_named(facts)
    assert set(KINDS) >= {"cot-decoding", "samples", "power-sampling", "budget-forcing", "suppression"}


def test_tokens_that_were_put_into_a_text_have_the_models_numbers() -> None:
    model, own = tiny("llama"), plan(span="all", amount=1.0)
    (whole,) = generate(model, [Row((1, 9, 11), own)], GenerationSettings(6))
    (again,) = generate(model, [Row((1, 9, 11), own, begun=whole.token_ids[:3])], GenerationSettings(6))
    (filled,) = with_every_number(model, [Row((1, 9, 11), own)], [again])
    assert filled.logprob == pytest.approx(whole.logprob, abs=1e-4) and filled.entropy == pytest.approx(
        whole.entropy, abs=1e-4
    )
    assert filled.top_ids == whole.top_ids and filled.top_logprob == pytest.approx(whole.top_logprob, abs=1e-4)
    assert with_every_number(model, [Row((1, 9, 11), own)], [whole]) == [whole]
