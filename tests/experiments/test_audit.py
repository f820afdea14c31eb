"""The audit of a vector: matched biases, directions of words, what is left without them, and shares that are defined or not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy import stats
from transformers import LlamaConfig, LlamaForCausalLM

from experiments.decoders.bias import WordBias
from experiments.store.runs import Store
from experiments.studies.elicitation.asked import Elicit, Setting
from experiments.studies.elicitation.audit_arms import in_place, opening_of, without, words_of
from experiments.studies.elicitation.audit_strength import bias_divergence, matched_nats
from experiments.studies.elicitation.audit_subjects import Subject, planted
from experiments.studies.elicitation.audit_verdict import sentences, share_of_effect
from experiments.studies.elicitation.findings import Findings, audits_of
from experiments.studies.elicitation.named import card_named
from experiments.studies.elicitation.run import run_card
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.extraction import fit_jacobian, jacobian_tokens
from steering.extraction.lens import lens_logits, lens_rows, lens_tokens
from steering.model.models import LoadedModel, load_model, wrap
from steering.model.sites import Site
from steering.plan.plan import Dose, Span
from steering.vector.vectors import Provenance, SteeringVector
from tests.experiments.command_line import Steer, command
from tests.tiny import VOCABULARY, tiny, tokenizer

steer = pytest.fixture(command)
QUIET = Console(quiet=True)
BARE = Elicit(settings=(Setting(name="bare prompts, short", split="standard-test", form="bare"),), max_new_tokens=150)
LAST = Span.parse("last_prompt")


def subject(model: LoadedModel, direction: torch.Tensor, layer: int, amount: float = 1.0) -> Subject:
    vector = SteeringVector("tried", Site(layer), direction, Provenance("test", model.fingerprint, model.id))
    return Subject("tried", "tried", vector, Dose(amount, "vector"), LAST)


@pytest.fixture(scope="module")
def wide() -> LoadedModel:
    """A tiny model whose stream is wider than its vocabulary, so that some directions are read by no token at all."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=80, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, intermediate_size=32,
        max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    return wrap(LlamaForCausalLM(config).float(), tokenizer(), id="tiny-wide")


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3"])
def test_the_rows_of_the_lens_give_its_logits(name: str) -> None:
    model = tiny(name)
    rows, direction = lens_rows(model), torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    unit = direction.double() * model.d_model**0.5 / direction.double().norm()
    assert torch.allclose(rows @ unit, lens_logits(model, direction), atol=1e-4)
    assert torch.equal(lens_rows(model, [7, 3]), rows[[7, 3]])


def test_a_direction_in_a_words_place_speaks_for_it_and_without_it_nothing_is_left_along_it() -> None:
    model = tiny("llama")
    texts = [[1, *np.random.default_rng(n).integers(8, VOCABULARY, 20).tolist()] for n in range(4)]
    lens = fit_jacobian(model, texts, [Site(0)], skip=2)[Site(0)]
    given = subject(model, torch.randn(model.d_model, generator=torch.Generator().manual_seed(3)), 0)
    logit, jacobian = words_of(model, given, lens)
    assert [t.id for t in logit.tokens] == [t.id for t in lens_tokens(model, given.vector, 5)[0]]
    assert [t.id for t in jacobian.tokens] == [t.id for t in jacobian_tokens(model, lens, given.vector, 5)[0]]
    for words in (logit, jacobian):
        for count in (1, 5):
            put, left = in_place(given, words, count), without(given, words, count)
            assert float(put.norm()) == pytest.approx(given.vector.norm, rel=1e-5)
            mean = words.rows[:count].mean(0)
            assert float(put.double() @ mean) == pytest.approx(float(put.norm() * mean.norm()), rel=1e-5)
            assert left is not None and float(left.norm()) == pytest.approx(given.vector.norm, rel=1e-5)
            along = words.rows[:count] @ left.double() / words.rows[:count].norm(dim=1) / left.double().norm()
            assert float(along.abs().max()) < 1e-6
    carried = (jacobian.rows[0] @ given.vector.direction.double()) * model.d_model**0.5
    expected = jacobian.tokens[0].logit * lens.carried(given.vector.direction).norm()
    assert float(carried) == pytest.approx(float(expected), rel=1e-3), "J^T u read at the site is u read at the end"
    turned = words_of(model, subject(model, given.vector.direction, 0, amount=-2.0), lens)[0]
    assert [t.id for t in turned.tokens] == [t.id for t in lens_tokens(model, given.vector, 5)[1]]
    assert float(in_place(subject(model, given.vector.direction, 0, -2.0), turned, 1).double() @ turned.rows[0]) < 0
    row = subject(model, logit.rows[0].float(), 0)
    assert without(row, words_of(model, row, None)[0], 1) is None, "of a token's own row nothing is left without it"


def test_the_divergence_of_a_bias_is_that_of_the_two_distributions_and_is_matched() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40, 12)) * 2
    plain = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    ids, along = [2, 5, 7], None
    for nats in (0.0, 0.4, 3.0, 45.0, -2.0):
        moved = logits.copy()
        moved[:, ids] += nats
        q = np.exp(moved - moved.max(1, keepdims=True))
        q /= q.sum(1, keepdims=True)
        expected = stats.entropy(q, np.exp(plain), axis=1)
        along = np.log(np.exp(plain[:, ids]).sum(1))
        assert bias_divergence(along, nats) == pytest.approx(expected, abs=1e-9)
    assert along is not None
    nats, reached = matched_nats(along, 0.37)
    assert reached and bias_divergence(along, nats).mean() == pytest.approx(0.37, abs=1e-8)
    assert matched_nats(along, 0.0) == (0.0, True)
    highest = float(-along.mean())
    assert matched_nats(along, highest + 0.1) == (50.0, False), "no bias is as strong as that"


def test_a_direction_that_no_token_reads_changes_no_token(wide: LoadedModel) -> None:
    word, unread = planted(wide, 30, LAST)
    rows = lens_rows(wide)
    assert (
        float((rows - rows.mean(0) @ torch.eye(80).double()).matmul(unread.vector.direction.double()).abs().max())
        < 1e-4
    )
    prompts = [(1, n, n + 9, n + 20) for n in range(8, 28)]
    settings = GenerationSettings(6)

    def texts(subject: Subject | None) -> list[tuple[int, ...]]:
        rows = [Row(p, subject.own) if subject else Row(p) for p in prompts]
        return [g.token_ids for g in generate(wide, rows, settings)]

    plain = texts(None)
    assert texts(unread) == plain, "nothing but the scale of the logits changes"
    assert [t[0] for t in texts(word)].count(30) > [t[0] for t in plain].count(30)
    words = words_of(wide, word, None)[0]
    assert words.tokens[0].id == 30 and without(word, words, 1) is None
    assert opening_of(wide, words) == "w30" or opening_of(wide, words) == " w30"


def test_shares_of_an_effect_have_values_intervals_and_reasons() -> None:
    base, whole = np.repeat([0.0, 1.0], [80, 20]), np.repeat([1.0, 0.0, 1.0], [70, 10, 20])
    half = np.repeat([1.0, 0.0, 1.0], [35, 45, 20])
    same, none, part = (share_of_effect(base, one, whole) for one in (whole, base, half))
    for share, value in ((same, 1.0), (none, 0.0), (part, 0.5)):
        assert share.value == pytest.approx(value) and share.interval is not None
        assert share.interval.low < value < share.interval.high and share.interval.high - share.interval.low < 0.5
    harmed = share_of_effect(1 - base, 1 - half, 1 - whole)
    assert harmed.value == pytest.approx(0.5) and harmed.interval == part.interval, "harm is shared as help is"
    silent = share_of_effect(base, whole, base)
    assert silent.value is None and silent.reason is not None and "may be zero" in silent.reason


@pytest.mark.parametrize(
    ("bias", "said"),
    [
        (1.0, "it writes a token"),
        (0.0, "it does more than write a token"),
        (0.85, "not decided"),
        (2.5, "its words do more without it"),
    ],
)
def test_the_verdict_follows_the_shares(bias: float, said: str) -> None:
    n = 200 if bias != 0.85 else 40
    setting = Setting(name="here", split="s", form="f")
    reach = np.arange(n) / n
    base, whole, some = np.zeros(n), (reach < min(1, 1 / max(bias, 1))).astype(float), (reach < bias).astype(float)
    given = subject(tiny("llama"), torch.ones(16), 2)
    right = {"base": base, "tried": whole, "tried-bias-logit-1": some, "tried-without-logit-1": base}
    right |= {f"tried-random-{i}": base for i in range(20)}
    about = {"tried": "(a)", "tried-bias-logit-1": "(b) a bias", "tried-without-logit-1": "(d) without"}
    verdict, kept, beside = sentences(setting, given, right, about)
    assert said in verdict and verdict.startswith("here: tried") and "(d) without 0.00" in kept
    assert "0 of 20 random directions" in beside


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Findings]:
    """Planted vectors on the built-in base."""
    root = tmp_path_factory.mktemp("audit")
    given = {"n": 24, "n_dev": 12, "directions": 2, "files": [str(word_file(root))], "dose": "1r"}
    return root, run_card(card_named("audit"), BARE, Store(root / "runs"), given=given, console=QUIET)


def word_file(folder: Path) -> Path:
    """The row of the word that reasoning begins with, as a vector file."""
    base = load_model("builtin:base")
    (token,) = base.tokenizer(" let", add_special_tokens=False)["input_ids"]
    return planted(base, token, LAST)[0].vector.save(folder / "word.safetensors")


@pytest.mark.slow
def test_a_planted_word_has_word_share_one_and_a_direction_that_is_not_read_has_none(
    audited: tuple[Path, Findings],
) -> None:
    root, found = audited
    store = Store(root / "runs")
    graded = [
        store.open(run)
        for run in found.runs
        if run.startswith("elicit-audit-") and "match" not in run and "first" not in run
    ]
    for run in graded:
        table = run.table().to_pylist()
        arms = {row["arm"] for row in table}
        key = next(a for a in arms if f"{a}-bias-logit-1" in arms)
        values = {
            arm: np.array(
                [row["correct"] for row in sorted(table, key=lambda r: r["order"]) if row["arm"] == arm], float
            )
            for arm in arms
        }
        share = share_of_effect(values["base"], values[f"{key}-bias-logit-1"], values[key])
        if key == "planted-unread":
            assert share.value is None and share.reason
            continue
        assert share.interval is not None and share.interval.low <= 1 <= share.interval.high
        biased = [row for row in table if row["arm"] == f"{key}-bias-logit-1"]
        assert all(row["tokens"][0] == "let" for row in biased)
    assert any("planted to be a word, and is found to be one" in said for said in found.said)
    assert any("planted to be no word, and has no detectable effect" in said for said in found.said)
    assert found.options["digests"] == [SteeringVector.load(root / "word.safetensors").digest]


@pytest.mark.slow
def test_a_matched_bias_diverges_as_much_as_the_vector_on_its_development_questions(
    audited: tuple[Path, Findings],
) -> None:
    for table in audited[1].tables:
        own = next(note for note in table.notes if note.startswith("KL to the unsteered"))
        wanted = float(own.split("(development: ")[1].split(")")[0])
        first = next(note for note in table.notes if note.startswith("(b)"))
        assert float(first.split("(development: ")[1].split(")")[0]) == pytest.approx(wanted, rel=0.05, abs=1e-3)


@pytest.mark.slow
def test_what_audits_say_of_a_vector_is_found_by_its_digest(audited: tuple[Path, Findings]) -> None:
    root, found = audited
    digest = SteeringVector.load(root / "word.safetensors").digest
    said = audits_of([found, found.model_copy(update={"card": "paths"})], digest)
    assert said and all(
        "planted: the row of 'let': " in words and "(builtin:base on find-start)" in words for words in said
    )
    assert len(said) == len(set(said)) and any(
        "word share" in w or "writes a token" in w or "not decided" in w for w in said
    )
    assert audits_of([found], "0" * 16) == []


def test_the_decoder_adds_the_bias_that_its_fields_say() -> None:
    model = load_model("builtin:base")
    made = WordBias(words=("let",), nats=3.0).bias(model)
    assert model.tokenizer.decode(list(made.ids)) == "let" and (made.nats, made.span) == (3.0, LAST)
    with pytest.raises(BadInput, match="word-bias: Id 999"):
        WordBias(ids=(999,), nats=1.0).bias(model)


@pytest.mark.slow
def test_the_verb_audits_a_file_and_says_what_it_cannot(steer: Steer, tmp_path: Path) -> None:
    path = word_file(tmp_path)
    sized = ("--n", 4, "--n-dev", 4, "--directions", 2, "--max-new-tokens", 40, "--runs", tmp_path / "runs")
    code, out, _ = steer("vectors", "audit", path, "--dose", "1r", *sized, "--json")
    found = json.loads(out)
    assert code == 0 and found["card"] == "audit" and found["options"]["digests"] == [SteeringVector.load(path).digest]
    assert any("(e) begun with 'let'" in point["label"] for point in found["points"])
    for wrong, said in (
        (("--dose", "30deg"), "a vector is added"),
        (("--dev", "standard-test"), "not graded"),
        (("--span", "nowhere"), "nowhere"),
    ):
        code, _, words = steer("vectors", "audit", path, *sized, *wrong)
        assert code == 2 and said in words
