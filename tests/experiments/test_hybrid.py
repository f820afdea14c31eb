"""The hybrid experiment: taxonomy scores, gates without a thinking model, stored hybrids, and the whole from nothing to its table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from experiments.commands.cli import main
from experiments.commands.hybrid import _decisions
from experiments.evaluation.evaluate import run_evaluation
from experiments.evaluation.hybrids import stored_controller
from experiments.evaluation.rows import Parts, chunks_of, rules_of
from experiments.evaluation.spec import EvalSpec, Generating
from experiments.store.runs import ROW_SCHEMA, Arm, Store
from experiments.studies.hybrid.arms import RANDOM_BANKS, hybrid_arm, random_gate_rules
from experiments.studies.hybrid.arms import Parts as Made
from experiments.studies.hybrid.report import hybrid_frame, readings_per_token, render
from experiments.studies.hybrid.spec import HybridSpec
from experiments.studies.hybrid.taxonomy import (
    category_readout,
    greedy_traces,
    grid_scores,
    read_sentences,
    titles_of,
)
from experiments.studies.hybrid.texts import rollouts, sentence_labels
from experiments.studies.hybrid.when import Positions, fit_trigger, probe_readout, read_positions, thresholds
from experiments.studies.readings import training_problems
from experiments.tasks.items import Item
from experiments.tasks.task import task_named
from saes.sentence_training import train_sentence_sae
from steering.errors import BadInput
from steering.hybrid import Controller, Readout, ShiftBank
from steering.model.models import LoadedModel, load_model
from steering.model.prompts import encode_prompt
from steering.model.sites import Site

K, WIDTH = 3, 128


@pytest.fixture(scope="module")
def pair() -> tuple[LoadedModel, LoadedModel]:
    return load_model("builtin:base"), load_model("builtin:thinking")


def bank(seed: int = 0, size: float = 20.0) -> ShiftBank:
    g = torch.Generator().manual_seed(seed)
    vectors = torch.randn(K, WIDTH, generator=g)
    vectors = size * vectors / vectors.norm(dim=1, keepdim=True)
    return ShiftBank(
        Site(1), vectors, torch.zeros(1, 4, WIDTH), torch.full((1, 4), 0.5), torch.zeros(K, 4), torch.full((K,), 0.5)
    )


def readout(layer: int, n: int = K) -> Readout:
    g = torch.Generator().manual_seed(layer)
    return Readout(Site(layer), torch.randn(n, WIDTH, generator=g), torch.zeros(n), torch.zeros(WIDTH), True)


def test_grid_scores_of_a_case_done_by_hand() -> None:
    """Categories 0: a a b, 1: b b, 2: b. Titles a, b, b.
    F1: a 2*2/(3+2) = 0.8; b in 1: 2*2/(2+4) = 2/3; b in 2: 2*1/(1+4) = 0.4. Fits: 2 + 2 + 1 of 6. Pairs: 0-1 and 0-2 share 1/3, 1-2 all."""
    found = grid_scores(list("aabbbb"), np.array([0, 0, 0, 1, 1, 2]), 2, 3)
    assert found.consistency == pytest.approx((0.8 + 2 / 3 + 0.4) / 3)
    assert found.completeness == pytest.approx(5 / 6)
    assert found.independence == pytest.approx(2 / 3)
    assert found.score == pytest.approx((found.consistency + 5 / 6 + 2 / 3) / 3)
    assert grid_scores(list("aabb"), np.array([0, 0, 2, 2]), 0, 4).used == 2


def test_titles_are_told_apart_by_their_words() -> None:
    sentences = ["3 + 4 ;", "5 + 1 ;", "2 * 2 ;", "so 4 ;"]
    titles = titles_of(sentences, ["computing"] * 3 + ["concluding"], np.array([0, 0, 1, 2]), 4)
    assert titles == ("computing (+)", "computing (*)", "concluding", "unused")


def test_sentences_carry_the_grammars_labels(pair: tuple[LoadedModel, LoadedModel]) -> None:
    _, thinking = pair
    problems = training_problems(6, 3)
    traces = greedy_traces(thinking, [encode_prompt(thinking, p.prompt("bare")) for p in problems], 200)
    items = [Item(str(i), str(p.answer), p) for i, p in enumerate(problems)]
    labelled = sentence_labels(thinking, traces, items, None)
    vectors = read_sentences(thinking, traces, 2, 10_000)
    seen = set()
    for sentence in vectors.sentences:
        assert sentence.first >= len(traces.prompts[sentence.text]), "the prompt is not split"
        whole = (*traces.prompts[sentence.text], *traces.responses[sentence.text])
        assert thinking.tokenizer.decode(whole[sentence.first : sentence.last]) == sentence.words
        label, words = labelled[sentence.text, sentence.first, sentence.last], sentence.words
        seen.add(label)
        starts = {
            "proposing": ("not", "let", "first", "try", "hmm"),
            "testing the goal": ("goal",),
            "concluding": ("so",),
        }
        assert words.startswith(starts.get(label, tuple("0123456789") + ("check", "wait", "hmm", "enough"))), (
            label,
            words,
        )
    assert {"proposing", "computing", "testing the goal", "concluding"} <= seen
    assert len(read_sentences(thinking, traces, 2, 7).sentences) == 7


def test_tokens_are_read_as_the_autoencoder_reads_sentences() -> None:
    x = torch.randn(300, 16, generator=torch.Generator().manual_seed(0)) + 2
    sae = train_sentence_sae(x, 5, 2, 0, site=Site(1))
    made = category_readout(sae)
    assert made.categories(x).tolist() == sae.categories(x).tolist()
    assert torch.allclose(made.logits(x), sae.pre_activations(x), atol=1e-4)


def test_thresholds_open_at_their_rates() -> None:
    rng = np.random.default_rng(0)
    disagree = np.r_[np.ones(50, bool), np.zeros(200, bool)]
    hidden = torch.from_numpy(rng.normal(size=(250, 4)).astype(np.float32))
    weight = np.where(disagree, 1.0, 4.75)  # 50 of 1,000 positions
    found = Positions(hidden, disagree, np.zeros(250, int), np.arange(250), rng.random(250), weight)
    assert found.rate == pytest.approx(0.05)
    values = rng.random(250)
    above = weight[values > found.quantile(values, 0.1)].sum() / weight.sum()
    assert above == pytest.approx(0.1, abs=0.006)
    trigger = Readout(Site(1), torch.eye(4)[:1], torch.zeros(1), torch.zeros(4), False)
    candidates = thresholds(found, trigger)
    assert candidates["trigger"] == sorted(candidates["trigger"], reverse=True)
    opened = [weight[found.entropy > t].sum() / weight.sum() for t in candidates["entropy"]]
    assert opened == pytest.approx([0.025, 0.05, 0.1, 0.2], abs=0.008)


@pytest.mark.slow
def test_the_base_knows_where_the_thinking_model_parts_from_it(pair: tuple[LoadedModel, LoadedModel]) -> None:
    base, thinking = pair
    asked = [encode_prompt(base, p.prompt("bare")) for p in training_problems(60, 21)]
    texts = rollouts(base, thinking, asked, asked, 200)
    found = read_positions(base, thinking, texts, Site(1), readout(2))
    for row in (0, 7):
        ids = torch.tensor([texts[row].base_ids])
        with torch.inference_mode():
            mine, theirs = (m.model(input_ids=ids).logits[0].argmax(-1) for m in pair)
        q = [a - 1 for a, _ in texts[row].pairs]
        assert found.disagree[found.rollout == row].sum() == int((mine[q] != theirs[q]).sum())
    fitted = fit_trigger(base, found, Site(1))
    assert fitted.evaluation.auroc.value > 0.95 and fitted.evaluation.auroc.low > 0.7, "15 held-out rollouts"
    trigger = probe_readout(fitted.probe)
    assert torch.allclose(trigger.probability(found.hidden), fitted.probe.probabilities(found.hidden)[:, 1], atol=1e-5)


def hybrid_spec(n: int, rules: dict[str, Controller], name: str = "small") -> EvalSpec:
    spec = HybridSpec()
    arms = (
        Arm(name="base", label="base", role="baseline", model=spec.base, form="bare"),
        Arm(name="thinking", label="thinking", role="reference", model=spec.thinking, form="bare"),
        *(hybrid_arm(spec, key, key, rule) for key, rule in rules.items()),
    )
    return EvalSpec(name=name, splits={"standard-test": n}, arms=arms, generation=Generating(max_new_tokens=30))


def small_rules() -> dict[str, Controller]:
    whole = Controller("disagreement", "thinking", bank=bank(), categories=readout(2))
    return {
        "hybrid": whole,
        "no_effect": Controller("disagreement", "thinking", bank=bank().without_effect(), categories=readout(2)),
        "bias": Controller("disagreement", "thinking", "bias", bank(), readout(2), bias=torch.ones(K, 192)),
        "free": Controller("trigger", "base", bank=bank(), categories=readout(1), trigger=readout(1, 1), revert=False),
        "leak": Controller("disagreement", how="substitute"),
    }


def test_hybrids_are_stored_resumed_and_read_back(tmp_path: Path) -> None:
    rules = small_rules()
    spec, known = hybrid_spec(8, rules), {rule.digest: rule for rule in rules.values()}
    whole = run_evaluation(spec, Store(tmp_path / "whole"), controllers=known)

    def stop(done: int, total: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_evaluation(spec, Store(tmp_path / "cut"), controllers=known, on_rows=stop)
    again = run_evaluation(spec, Store(tmp_path / "cut"), controllers=known)
    for path in whole.shards():
        assert (again.folder / "rows" / path.name).read_bytes() == path.read_bytes()
    rows = whole.table().to_pandas()
    texts = {arm: group["text"].tolist() for arm, group in rows.groupby("arm")}
    assert texts["no_effect"] == texts["base"] and texts["leak"] == texts["thinking"]
    assert rows[rows["arm"] == "base"]["choices"].isna().all()
    gated = rows[rows["arm"] == "hybrid"]
    assert sum(map(len, gated["choices"])) == gated["edits_fired"].sum() > 0
    assert all(pq.ParquetFile(path).schema_arrow.equals(ROW_SCHEMA) for path in whole.shards())
    for arm in whole.manifest.arms:
        if arm.controller is not None:
            assert stored_controller(whole.folder / "controllers", arm.controller).digest == rules[arm.name].digest


def test_another_bank_or_thinking_model_is_another_row() -> None:
    def keys(rule: Controller) -> set[str]:
        spec = hybrid_spec(2, {"hybrid": rule})
        models = {name: load_model(name) for name in ("builtin:base", "builtin:thinking")}
        chunks = chunks_of(spec, Parts(task_named("find-start"), models, {}, rules_of(spec, {rule.digest: rule})))
        return {p.key for chunk in chunks for p in chunk if p.arm.name == "hybrid"}

    one = Controller("disagreement", "thinking", bank=bank(), categories=readout(2))
    assert keys(one) == keys(Controller("disagreement", "thinking", bank=bank(), categories=readout(2)))
    for other in (bank(1), bank().without_effect()):
        assert not keys(one) & keys(Controller("disagreement", "thinking", bank=other, categories=readout(2)))
    assert not keys(one) & keys(Controller("disagreement", "thinking", bank=bank(), categories=readout(3)))


def test_the_thinking_model_can_be_asked_in_another_form(tmp_path: Path) -> None:
    rule = Controller("disagreement", how="substitute")
    spec = hybrid_spec(4, {"leak": rule})
    arms = (*spec.arms[:2], hybrid_arm(HybridSpec(thinking_form="quick"), "leak", "leak", rule))
    quick = Arm(name="quick", label="quick", role="prompt", model="builtin:thinking", form="quick")
    run = run_evaluation(
        spec.model_copy(update={"arms": (*arms, quick)}), Store(tmp_path), controllers={rule.digest: rule}
    )
    rows = run.table().to_pandas()
    texts = {arm: group["text"].tolist() for arm, group in rows.groupby("arm")}
    assert texts["leak"] == texts["quick"] != texts["thinking"]
    assert rows[rows["arm"] == "leak"]["prompt"].tolist() == rows[rows["arm"] == "base"]["prompt"].tolist()


def test_a_controller_that_was_not_given_is_refused(tmp_path: Path) -> None:
    rules = small_rules()
    with pytest.raises(BadInput, match="was not given"):
        run_evaluation(hybrid_spec(2, rules), Store(tmp_path), controllers={})
    with pytest.raises(ValueError, match="a plan and a controller"):
        Arm(name="x", label="x", role="steered", model="m", form="bare", plan={"a": 1}, controller={"when": "anywhere"})


def test_hybrids_are_refused_where_rows_must_have_the_same_bits(tmp_path: Path) -> None:
    rules = small_rules()
    spec = hybrid_spec(2, rules).model_copy(update={"batch_invariant": True})
    with pytest.raises(BadInput, match="cannot run batch-invariant"):
        run_evaluation(spec, Store(tmp_path), controllers={r.digest: r for r in rules.values()})


def test_the_frame_counts_what_the_controller_did(tmp_path: Path) -> None:
    rules = small_rules()
    run = run_evaluation(hybrid_spec(8, rules), Store(tmp_path), controllers={r.digest: r for r in rules.values()})
    frame = hybrid_frame(run).set_index("arm")
    rows = run.table(arms=["hybrid"]).to_pandas()
    tokens, choices = rows["token_ids"].map(len).sum(), [c for row in rows["choices"] for c in row]
    line = frame.loc["hybrid"]
    assert line["steered"] == pytest.approx(len(choices) / tokens)
    assert line["matched"] == pytest.approx(np.mean([c["matched"] for c in choices]))
    assert line["alpha"] == pytest.approx(float(np.log1p(np.exp(0.5))), rel=1e-4)
    assert line["readings"] == pytest.approx(2 + len(choices) / tokens)
    assert sum(line["categories"]) == pytest.approx(1, abs=1e-3)
    assert frame.loc["no_effect", "size"] == 0 and frame.loc["no_effect", "accuracy"] == frame.loc["base", "accuracy"]
    assert frame.loc["base", "readings"] == 1 and frame.loc["leak", "readings"] == 2
    assert frame.loc["leak", "matched"] == 1 and frame.loc["leak", "accuracy"] == frame.loc["thinking", "accuracy"]
    assert frame.loc["free", "readings"] == 1 and frame.loc["free", "steered"] > 0, (
        "decided within the base's own reading"
    )
    assert readings_per_token(Arm(name="b", label="b", role="control", model="m", form="bare"), 10, 3) == 1


def test_the_table_has_what_was_cut_and_why_a_gap_is_not_defined(tmp_path: Path) -> None:
    rules = small_rules()
    run = run_evaluation(hybrid_spec(2, rules), Store(tmp_path), controllers={r.digest: r for r in rules.values()})
    frame = hybrid_frame(run)
    table = render(frame, frame["split"].iloc[0])
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert {"cut %", "no\nanswer %"} <= set(columns)
    rows = run.table(arms=["hybrid"]).to_pandas()
    line = frame[frame["arm"] == "hybrid"].iloc[0]
    assert line["truncated_rate"] == rows["truncated"].mean() and line["unscorable_rate"] == 1 - rows["scorable"].mean()
    gaps = dict(zip(frame["label"], columns["gap closed %"], strict=True))
    assert gaps["base"] == "" and gaps["hybrid"] == "not\ndefined", "two problems do not show a gap"
    assert "The gap closed is not defined on n = 2: the gap from baseline to reference may be zero" in str(
        table.caption
    )


@pytest.mark.parametrize(
    ("auroc", "said"),
    [
        ((float("nan"),) * 3, "is not defined: the held-out rollouts hold only agreements, or only disagreements"),
        ((0.8, float("nan"), float("nan")), "AUROC 0.800 (no interval: fewer than 5 held-out rollouts"),
        ((0.8, 0.7, 0.9), "AUROC 0.800 (0.700 to 0.900)."),
    ],
)
def test_an_auroc_that_is_not_defined_is_said_in_words(auroc: tuple[float, float, float], said: str) -> None:
    decided = {
        "when": {"trigger": {"auroc": dict(zip(("value", "low", "high"), auroc, strict=True))}}, "bank": {"match_rate": 0.5},
        "disagreements": {"share": 0.1}, "seeds": {"bank": 42}, "thresholds": {"probe": 0.5},
    }  # fmt: skip
    assert said in _decisions(decided) and "nan" not in _decisions(decided)


@pytest.mark.slow
def test_the_whole_experiment_on_the_pair_and_its_second_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (
        "hybrid", "--runs", str(tmp_path), "--n", "8", "--n-dev", "4", "--json", "--set", "traces=48", "--set", "rollouts=64",
        "--set", "held_out=16", "--set", "seeds=[42]", "--set", "epochs=3", "--set", "sizes=[5]", "--set", "layers=[2]",
        "--set", "n_legacy=1", "--set", "n_random=2", "--set", "n_random_entropy=2", "--set", "hidden=64", "--set", "max_new_tokens=110",
    )  # fmt: skip
    documents = []
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["steer", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        documents.append(json.loads(capsys.readouterr().out))
        monkeypatch.setattr("experiments.studies.hybrid.run.fit_bank", None)  # the second call makes nothing anew
        monkeypatch.setattr("experiments.studies.hybrid.run.choose_taxonomy", None)
    assert documents[0] == documents[1]
    lines = pd.DataFrame(documents[0]["arms"])
    for split in ("standard-test", "hard-test"):
        part = lines[lines["split"] == split].set_index("arm")
        assert part.loc["no_effect", "accuracy"] == part.loc["base", "accuracy"]
        leaked = part.loc[[f"substitute_{x}" for x in (5, 10, 25, 50)], "accuracy"]
        assert leaked.iloc[-1] > part.loc["base", "accuracy"]
        assert part.loc["probe_kept", "readings"] < part.loc["hybrid", "readings"] - 0.5
        assert {
            "hybrid",
            "random_category",
            "random_vectors",
            "random_positions",
            "magnitude_only",
            "one_vector",
            "bias_only",
            "legacy",
            "entropy",
            "entropy_random_vectors",
        } <= set(part.index)


def test_wrong_words_are_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, said in (
        (["--pair", "nope"], "Unknown pair"),
        (["--set", "rollout=3"], "Did you mean 'rollouts'"),
        (["--set", "rollouts"], "write field=value"),
        (["--set", "rollouts=2"], "rollouts"),
    ):
        monkeypatch.setattr(sys, "argv", ["steer", "hybrid", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert said in capsys.readouterr().err


def test_behind_the_entropy_gate_only_the_vectors_are_drawn() -> None:
    own, guess = bank(), readout(1)
    parts = Made(own, own, own, guess, torch.zeros(K, 4), guess, guess)
    rules = [rule for _, rule in random_gate_rules(parts, {"entropy": 1.25}).values()]
    assert len({rule.bank.digest for rule in rules if rule.bank is not None} | {own.digest}) == RANDOM_BANKS + 1
    for rule in rules:
        assert (rule.when, rule.which, rule.threshold, rule.categories) == ("entropy", "base", 1.25, guess)
        assert rule.bank is not None
        torch.testing.assert_close(rule.bank.vectors.norm(dim=1), own.vectors.norm(dim=1))
