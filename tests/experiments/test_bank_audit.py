"""The audit of a bank: what its vectors are without their words, what their words are without them, and what the shares say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from experiments.studies.elicitation.asked import Setting
from experiments.studies.elicitation.bank_audit import audited, changed_bank, words_of_bank
from steering.extraction.lens import lens_logits, lens_rows
from steering.hybrid import ShiftBank
from steering.model.models import LoadedModel
from steering.model.sites import Site
from tests.tiny import tiny

SETTING = Setting(name="bare", split="test", form="bare")
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return tiny("llama")


@pytest.fixture(scope="module")
def bank(model: LoadedModel) -> ShiftBank:
    torch.manual_seed(1)
    vectors = torch.randn(3, model.d_model)
    vectors[2] = lens_rows(model, [7])[0]
    return ShiftBank(
        Site(1), vectors, torch.randn(1, 4, model.d_model), torch.zeros(1, 4), torch.randn(3, 4), torch.zeros(3)
    )


def test_without_its_words_a_bank_speaks_for_none_of_them_and_is_as_long(model: LoadedModel, bank: ShiftBank) -> None:
    left = changed_bank(model, bank, "without", 2)
    for before, after, ids in list(zip(bank.vectors, left.vectors, words_of_bank(model, bank, 2), strict=True))[:2]:
        assert torch.allclose(after.norm(), before.norm(), rtol=1e-4)
        assert (lens_rows(model, ids).double() @ after.double()).abs().max() < 1e-5
        assert lens_logits(model, before).argmax() in ids
    assert left.digest != bank.digest and torch.equal(left.heads, bank.heads), "the coefficients stay"


def test_a_vector_that_is_a_row_has_nothing_left_without_it_and_is_its_own_word(
    model: LoadedModel, bank: ShiftBank
) -> None:
    assert changed_bank(model, bank, "without", 1).vectors[2].norm() == 0
    words = changed_bank(model, bank, "lens", 1)
    assert torch.allclose(words.vectors[2], bank.vectors[2], atol=1e-5)
    assert torch.allclose(words.vectors.norm(dim=1), bank.vectors.norm(dim=1), rtol=1e-4)


def say(model: LoadedModel, bank: ShiftBank, words: float, without: float) -> list[str]:
    """The sentences about a bank of +60 points whose words alone, and whose rest alone, have these shares of it."""
    n = 300
    draws = RNG.random(n)
    right = {
        "base": draws < 0.1, "bank": draws < 0.7, "words": draws < 0.1 + 0.6 * words, "bank-without": draws < 0.1 + 0.6 * without,
    } | {f"draw-{seed}": RNG.random(n) < 0.1 for seed in range(20)}  # fmt: skip
    about = {"bank": "the bank", "words": "five words alone", "bank-without": "without its words"}
    values = {arm: own.astype(float) for arm, own in right.items()}
    return audited(SETTING, model, bank, 2, values, about, ("words",), 0.2)[1]


def test_a_bank_whose_words_do_everything_writes_a_token_and_one_whose_words_do_little_does_more(
    model: LoadedModel, bank: ShiftBank
) -> None:
    token, more, silent = say(model, bank, 1.0, 0.0), say(model, bank, 0.3, 1.0), say(model, bank, 0.85, 0.5)
    assert "it writes a token" in token[0] and "it keeps 0.00" in token[1]
    assert "it does more than write a token" in more[0] and "it keeps 1.00" in more[1]
    assert "writes a token:" not in silent[0].replace("not decided whether it does more than write a token", "")
    assert all(
        "0 of 20 banks of random vectors" in said[2]
        and "nothing says that the effect is this bank's own" not in said[2]
        for said in (token, more, silent)
    )


def test_without_an_effect_there_is_no_share(model: LoadedModel, bank: ShiftBank) -> None:
    same = {arm: np.array([1.0, 0.0] * 20) for arm in ("base", "bank", "words")}
    table, said = audited(SETTING, model, bank, 2, same, {"bank": "the bank", "words": "words"}, ("words",), 0.2)
    assert "not defined" in said[0] and "not defined" in str(table.lines[1][3])


def test_a_bank_that_does_harm_gains_nothing_and_one_that_random_banks_equal_has_nothing_of_its_own(
    model: LoadedModel, bank: ShiftBank
) -> None:
    n = 200
    right = {"base": RNG.random(n) < 0.8, "bank": RNG.random(n) < 0.3, "words": RNG.random(n) < 0.3}
    right |= {f"draw-{seed}": RNG.random(n) < (0.3 if seed % 2 else 0.8) for seed in range(20)}
    values = {arm: own.astype(float) for arm, own in right.items()}
    said = audited(SETTING, model, bank, 2, values, {"bank": "the bank", "words": "words"}, ("words",), 0.2)[1]
    table = audited(SETTING, model, bank, 2, values, {"bank": "the bank", "words": "words"}, ("words",), 0.2)[0]
    assert all(note.count("'") == 4 for note in table.notes), "two words per category"
    assert "lowers accuracy" in said[0] and "no gain" in said[0] and len(said) == 2
    assert "nothing says that the effect is this bank's own" in said[1]
