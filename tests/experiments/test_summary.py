"""The summary against numbers counted by hand from the same rows."""

from __future__ import annotations

import io
import json
import random
import statistics as plain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from experiments.evaluation.sentences import render_table, sentence
from experiments.evaluation.summarise import summarise
from experiments.evaluation.summary import COLUMNS, RunSummary, from_json, to_json
from experiments.statistics import (
    gap_recovered,
    mcnemar_exact,
    paired_difference,
    rate_clustered,
    wilson,
    wilson_clustered,
)
from experiments.store.runs import ROW_SCHEMA, Manifest, Store
from tests.experiments.fake_run import SPLITS, make_fake_run, make_manifest, make_rows

N = 40


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=ROW_SCHEMA).select(COLUMNS)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return make_rows(N)


@pytest.fixture(scope="module")
def summary(rows: list[dict[str, Any]]) -> RunSummary:
    return summarise(table_of(rows), make_manifest(n_items=N))


def small(
    outcomes: dict[str, list[int]], tokens: dict[str, int] | None = None, seeds: int = 1
) -> tuple[pa.Table, Manifest]:
    """A run of one split with the given 0/1 outcomes per arm; item i has `seeds` outcomes in a row."""
    roles = {"base": "baseline", "thinking": "reference", "random": "control"}
    arms = [
        {"name": name, "label": name, "role": roles.get(name, "steered"), "model": "m", "form": "bare"}
        for name in outcomes
    ]
    n = max(len(v) for v in outcomes.values()) // seeds
    manifest = Manifest.model_validate(
        {"run_id": "small", "name": "small", "spec": {}, "arms": arms, "splits": {"test": n}, "seeds": seeds}
    )
    like = make_rows(1)[0]
    rows = []
    for name, values in outcomes.items():
        for index, value in enumerate(values):
            ids = list(range((tokens or {}).get(name, 5)))
            place = {
                "arm": name,
                "split": "test",
                "item": f"i{index // seeds:04d}",
                "seed": index % seeds,
                "order": index // seeds,
            }
            rows.append(
                {**like, **place, "key": f"{name}{index}", "correct": bool(value), "token_ids": ids, "gold": "1"}
            )
    return table_of(rows), manifest


def test_every_arm_is_counted_as_by_hand(rows: list[dict[str, Any]], summary: RunSummary) -> None:
    assert [s.split for s in summary.splits] == list(SPLITS)
    for part in summary.splits:
        assert [a.name for a in part.arms] == [a.name for a in make_manifest().arms]
        for arm in part.arms:
            mine = [r for r in rows if r["split"] == part.split and r["arm"] == arm.name]
            right = sum(r["correct"] for r in mine)
            lengths = [len(r["token_ids"]) for r in mine]
            edits = [x for r in mine for x in r["edit_ratio"]]
            assert arm.accuracy is not None and arm.trace_accuracy is not None
            assert (arm.n, arm.items, arm.accuracy.count, arm.accuracy.n) == (N, N, right, N)
            assert arm.accuracy.value == right / N and arm.accuracy.interval == wilson(right, N)
            assert arm.trace_accuracy.value == sum(r["trace_ok"] for r in mine) / N
            assert arm.well_formed_rate == sum(r["well_formed"] for r in mine) / N
            assert (arm.truncated, arm.unscorable) == (
                sum(r["truncated"] for r in mine),
                sum(not r["scorable"] for r in mine),
            )
            assert arm.truncated_rate == arm.truncated / N
            assert arm.mean_tokens == pytest.approx(plain.fmean(lengths)) and arm.median_tokens == plain.median(lengths)
            edited = [x for x in edits if x > 0]
            assert arm.steered_fraction == pytest.approx(len(edited) / len(edits))
            if edited:
                assert arm.median_edit_ratio == pytest.approx(plain.median(edited), abs=1e-6)
            else:
                assert arm.median_edit_ratio is None
            assert arm.edits_fired == arm.edits_planned == sum(r["edits_fired"] for r in mine)
    assert {a.name for a in part.arms if a.edits_fired} == {"steered", "random", "wrong_sign"}


def test_behaviours_are_rates_per_hundred_generated_tokens(rows: list[dict[str, Any]], summary: RunSummary) -> None:
    part = summary.split("hard-test")
    names = {s["label"] for r in rows if r["split"] == "hard-test" for s in r["labels"]}
    assert "backtracking" in names
    for arm in part.arms:
        assert set(arm.behaviours) == names, "an arm without a behaviour shows zero, not nothing"
        mine = [r for r in rows if r["split"] == "hard-test" and r["arm"] == arm.name]
        for name, found in arm.behaviours.items():
            spans = [[s for s in r["labels"] if s["label"] == name] for r in mine]
            assert found.spans == sum(map(len, spans))
            assert found.per_100_tokens == pytest.approx(100 * found.spans / sum(len(r["tokens"]) for r in mine))
            assert found.low is not None and found.high is not None and found.low <= found.per_100_tokens <= found.high
            counts, lengths = [len(one) for one in spans], [len(r["tokens"]) for r in mine]
            _, interval = rate_clustered(counts, lengths)
            assert interval is not None and found.high == pytest.approx(100 * interval.high)
            assert found.share_of_rows == sum(map(bool, spans)) / N
            assert found.detectors == (["grammar"] if found.spans else [])
    assert (
        part.arm("wrong_sign").behaviours["backtracking"].spans
        == 0
        < part.arm("steered").behaviours["backtracking"].spans
    )


def test_arms_are_compared_with_the_baseline_item_by_item(rows: list[dict[str, Any]], summary: RunSummary) -> None:
    for part in summary.splits:
        by_item = {
            arm.name: {r["item"]: r for r in rows if r["split"] == part.split and r["arm"] == arm.name}
            for arm in part.arms
        }
        base, top = by_item["base_bare"], by_item["thinking"]
        assert part.arm("base_bare").versus_baseline is None and part.arm("base_bare").gap is None
        assert part.arm("thinking").gap is None
        for arm in part.arms[1:]:
            mine, found = by_item[arm.name], arm.versus_baseline
            assert found is not None
            helped = sum(mine[i]["correct"] and not base[i]["correct"] for i in base)
            hurt = sum(base[i]["correct"] and not mine[i]["correct"] for i in base)
            assert (found.helped, found.hurt, found.n, found.paired_n, found.missing) == (helped, hurt, N, N, 0)
            assert found.difference == pytest.approx((helped - hurt) / N)
            assert found.p == mcnemar_exact(helped, hurt) and found.test == "exact McNemar"
            values = [[float(r[i]["correct"]) for i in base] for r in (base, mine, top)]
            assert found.interval == paired_difference(values[0], values[1]).interval
            lengths = [len(mine[i]["token_ids"]) - len(base[i]["token_ids"]) for i in base]
            assert found.token_difference == pytest.approx(plain.fmean(lengths))
            if arm.name != "thinking":
                expected = gap_recovered(*values)
                assert arm.gap is not None
                assert (arm.gap.value, arm.gap.interval, arm.gap.n) == (expected.value, expected.interval, N)


def test_the_order_of_rows_and_the_shards_they_lie_in_do_not_matter(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    manifest = make_manifest(n_items=N)
    shuffled = random.Random(1).sample(rows, len(rows))
    first = to_json(summarise(table_of(rows), manifest))
    assert to_json(summarise(table_of(shuffled), manifest)) == first
    one = make_fake_run(tmp_path / "a", N)
    other = Store(tmp_path / "b").create(manifest.model_copy(update={"run_id": "other", "name": "Another"}))
    for start in range(0, len(rows), 101):
        other.write(shuffled[start : start + 101])
    texts = []
    for run in (one, other):
        run.write_summary(json.loads(to_json(summarise(run.table(COLUMNS), run.manifest))))
        texts.append((run.folder / "summary.json").read_text())
    assert texts[0] == texts[1] == first
    stored = one.summary()
    assert stored is not None and to_json(from_json(stored)) == first


def test_json_is_sorted_and_rounded_to_six_places(summary: RunSummary) -> None:
    data = json.loads(to_json(summary))
    assert to_json(summary) == json.dumps(data, sort_keys=True, indent=2, ensure_ascii=False) + "\n"

    def numbers(value: Any) -> list[float]:
        if isinstance(value, dict | list):
            return [n for v in (value.values() if isinstance(value, dict) else value) for n in numbers(v)]
        return [value] if isinstance(value, float) else []

    assert all(round(n, 6) == n for n in numbers(data)) and len(numbers(data)) > 100
    assert "-0.0" not in {str(n) for n in numbers(data)}


# What is missing, and what is refused


def test_missing_pairs_are_left_out_and_counted(rows: list[dict[str, Any]]) -> None:
    def kept(row: dict[str, Any]) -> bool:
        return not (row["arm"] == "steered" and row["order"] < 7) and not (
            row["arm"] == "base_bare" and row["order"] in (6, 20)
        )

    part = summarise(table_of([r for r in rows if kept(r)]), make_manifest(n_items=N)).split("standard-test")
    arm = part.arm("steered")
    found = arm.versus_baseline
    assert found is not None and (arm.n, found.n, found.paired_n, found.missing) == (
        N - 7,
        N - 8,
        N - 8,
        7,
    )
    items = {o: {r["arm"]: r for r in rows if r["order"] == o and r["split"] == "standard-test"} for o in range(N)}
    both = [o for o in range(7, N) if o != 20]
    expected = sum(items[o]["steered"]["correct"] - items[o]["base_bare"]["correct"] for o in both) / len(both)
    assert found.difference == pytest.approx(expected)
    assert arm.gap is not None and arm.gap.n == N - 8
    assert "7 pairs are missing on one side and left out." in sentence(arm)


def test_arms_on_different_items_or_questions_are_refused(rows: list[dict[str, Any]]) -> None:
    manifest = make_manifest(n_items=N)
    moved = [{**r, "item": f"other-{r['item']}"} if r["arm"] == "steered" else r for r in rows]
    with pytest.raises(ValueError, match="'base_bare' and 'steered' of split 'standard-test' hold no item in common"):
        summarise(table_of(moved), manifest)
    changed = [{**r, "gold": "no"} if r["arm"] == "steered" and r["order"] == 3 else r for r in rows]
    with pytest.raises(ValueError, match="different questions under item 'standard-test-003'"):
        summarise(table_of(changed), manifest)
    with pytest.raises(ValueError, match="'base_bare' holds item 'standard-test-000' with seed 0 more than once"):
        summarise(table_of([*rows, rows[0]]), manifest)
    with pytest.raises(ValueError, match="lacks the column edit_ratio"):
        summarise(table_of(rows).drop_columns(["edit_ratio"]), manifest)


def test_an_arm_without_rows_has_no_numbers_and_is_not_an_error(rows: list[dict[str, Any]]) -> None:
    manifest = make_manifest(n_items=N)
    part = summarise(table_of([r for r in rows if r["arm"] not in ("steered", "thinking")]), manifest).split(
        "hard-test"
    )
    arm = part.arm("steered")
    assert (arm.n, arm.accuracy, arm.mean_tokens, arm.steered_fraction, arm.versus_baseline) == (
        0,
        None,
        None,
        None,
        None,
    )
    assert sentence(arm) == "Base + reasoning vector: no rows yet."
    other = part.arm("random")
    assert other.gap is not None and other.gap.value is None and "hold no pair in common" in str(other.gap.reason)
    empty = summarise(table_of([]), manifest)
    assert [a.n for s in empty.splits for a in s.arms] == [0] * 12
    assert "no rows yet" in sentence(empty.split("hard-test").arm("base_bare"))
    assert from_json(json.loads(to_json(empty))) == empty


def test_a_task_without_a_trace_verifier_has_no_trace_accuracy(rows: list[dict[str, Any]]) -> None:
    plainer = [{**r, "trace_ok": None, "well_formed": None} for r in rows]
    arm = summarise(table_of(plainer), make_manifest(n_items=N)).split("hard-test").arm("steered")
    assert arm.trace_accuracy is None and arm.well_formed_rate is None and arm.accuracy is not None
    half = [{**r, "trace_ok": None if r["order"] % 2 else True} for r in rows]
    found = summarise(table_of(half), make_manifest(n_items=N)).split("hard-test").arm("steered").trace_accuracy
    assert found is not None and (found.value, found.n) == (1.0, N // 2)


def test_the_gap_is_explained_where_it_is_not_defined() -> None:
    table, manifest = small({"base": [0, 1] * 20, "steered": [1] * 40, "thinking": [1, 0] * 20})
    part = summarise(table, manifest)
    gap = part.split("test").arm("steered").gap
    assert gap is not None and gap.value is None and gap.interval is None
    assert "may be zero" in str(gap.reason)
    text = rendered(part, "test", 100)
    assert "not defined" in " ".join(text.split()) and "steered: the gap recovered is not defined" in text


def test_several_seeds_are_averaged_within_items() -> None:
    rng = random.Random(3)
    outcomes = {name: [int(rng.random() < p) for _ in range(40 * 4)] for name, p in (("base", 0.3), ("steered", 0.6))}
    table, manifest = small(outcomes, seeds=4)
    arm = summarise(table, manifest).split("test").arm("steered")
    grids = {k: [v[i : i + 4] for i in range(0, 160, 4)] for k, v in outcomes.items()}
    found, expected = arm.versus_baseline, paired_difference(grids["base"], grids["steered"])
    assert found is not None and arm.accuracy is not None
    assert (found.n, found.paired_n, arm.n, arm.items) == (40, 160, 160, 40)
    assert (found.difference, found.interval, found.p) == (expected.difference, expected.interval, expected.p)
    assert found.test == "sign-flip permutation over items"
    assert arm.accuracy.interval == wilson_clustered([sum(g) for g in grids["steered"]], [4] * 40)
    assert "n = 40 items, 160 pairs" in sentence(arm)


# Sentences and tables


def test_the_sentence_of_an_effect_has_interval_counts_n_p_and_tokens() -> None:
    base = [0] * 90 + [1] * 6 + [0] * 80 + [1] * 24
    steered = [1] * 90 + [0] * 6 + [0] * 80 + [1] * 24
    table, manifest = small({"base": base, "steered": steered}, tokens={"base": 5, "steered": 60})
    part = summarise(table, manifest).split("test")
    found = part.arm("steered").versus_baseline
    assert found is not None
    low, high = (f"{100 * bound:+.1f}" for bound in (found.interval.low, found.interval.high))
    expected = f"+42.0 points (95 % CI {low} to {high}), 90 helped, 6 hurt, n = 200, p < 0.001; tokens +55."
    expected += " No random direction stands beside it: whether any edit of this size would do the same is open."
    assert sentence(part.arm("steered")) == expected
    assert 0.33 < found.interval.low < 0.37 and 0.46 < found.interval.high < 0.51
    assert sentence(part.arm("base")) == (
        "15.0 % right (95 % CI 10.7 to 20.6), n = 200; 0 truncated, 0 unscorable; 5 tokens on average."
    )


def test_the_sentence_of_no_effect_says_what_would_have_been_found() -> None:
    base = [0] * 11 + [1] * 9 + [0] * 160 + [1] * 20
    steered = [1] * 11 + [0] * 9 + [0] * 160 + [1] * 20
    table, manifest = small({"base": base, "steered": steered}, tokens={"base": 7, "steered": 5})
    text = sentence(summarise(table, manifest).split("test").arm("steered"))
    assert text.startswith("No detectable difference (+1.0 points, 95 % CI -")
    assert "11 helped, 9 hurt, n = 200, p = 0.82);" in text
    assert "with this n, differences of about 6.2 points would be found with 80 % power; tokens -2." in text


def test_few_items_are_called_exploratory() -> None:
    table, manifest = small({"base": [0] * 4, "steered": [0, 0, 0, 1]})
    summary = summarise(table, manifest)
    text = sentence(summary.split("test").arm("steered"))
    assert "this n is too small to find any difference" in text and text.endswith("Exploratory: fewer than 30 items.")
    assert "Exploratory" in rendered(summary, "test", 80)


def rendered(summary: RunSummary, split: str, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(render_table(summary, split))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_shows_every_number_uncut(summary: RunSummary, width: int) -> None:
    text = rendered(summary, "hard-test", width)
    assert "…" not in text and "hard-test: 40 items" in text and "Intervals: 95 %." in text
    assert max(map(len, text.splitlines())) <= width
    for arm in summary.split("hard-test").arms:
        assert arm.accuracy is not None and f"{100 * arm.accuracy.value:.1f}" in text
        if arm.versus_baseline:
            found = arm.versus_baseline
            bounds = f"{100 * found.interval.low:+.1f} to {100 * found.interval.high:+.1f}"
            assert bounds in text and f"{found.helped}/{found.hurt}" in text


def test_the_table_says_what_is_missing(rows: list[dict[str, Any]]) -> None:
    part = [r for r in rows if r["arm"] != "steered" or r["order"] >= 10]
    text = rendered(summarise(table_of(part), make_manifest(n_items=N)), "hard-test", 120)
    assert "Base + reasoning vector: 30 of 40 items so far." in text
    assert "Base + reasoning vector: 30 pairs compared, 10 missing on one side." in text


def test_labels_are_shown_as_they_are_not_as_markup(rows: list[dict[str, Any]]) -> None:
    manifest = make_manifest(n_items=N)
    arms = [a.model_copy(update={"label": "[red]x[/red]"}) if a.name == "steered" else a for a in manifest.arms]
    text = rendered(summarise(table_of(rows), manifest.model_copy(update={"arms": arms})), "hard-test", 120)
    assert "[red]x[/red]" in text
