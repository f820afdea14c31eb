"""Every elicitor of a store in one table: lines are read from rows, shared trainings are one line, and what is not one table is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from experiments.store.runs import Store
from experiments.studies.elicitation.findings import Findings, stored_findings
from experiments.studies.elicitation.run import run_card
from experiments.studies.training.named import CARDS
from experiments.studies.training.overview import elicitors, overview_table
from experiments.studies.training.trained_models import read_trained
from steering.errors import BadInput
from tests.experiments.command_line import Steer, command
from tests.experiments.test_training import BARE
from tests.experiments.test_weight_cards import SMALL

QUIET = Console(quiet=True)
SETTING = "bare prompts"
HALF = BARE.max_new_tokens // 2
steer = pytest.fixture(command)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = Store(tmp_path_factory.mktemp("overview"))
    given = SMALL | {"n": 12}
    run_card(CARDS["reference"], BARE, made, given=given | {"arms": ["likelihood", "full"]}, console=QUIET)
    run_card(
        CARDS["one-example"], BARE, made, console=QUIET,
        given=given | {"arms": ["full", "entropy"], "candidates": 4, "epochs": 2, "shown": []},
    )  # fmt: skip
    return made


def test_lines_are_read_from_the_rows_and_a_shared_training_is_one_line(store: Store) -> None:
    found, broken = stored_findings(store)
    lines = elicitors(store, found, SETTING)
    assert not broken and [lines[0].label, lines[-1].label] == ["base, greedy", "thinking model"]
    named = {line.label: line for line in lines}
    assert named["the full set, right answers"].cards == ("one-example", "reference")
    own = named["likelihood of the reference, both terms"]
    (run,) = {p.run for one in found if one.card == "reference" for p in one.points}
    rows = store.open(run).table(columns=["arm", "item", "correct"]).to_pandas()
    right = rows.pivot(index="item", columns="arm", values="correct").astype(float)
    assert own.seeds == pytest.approx([right["likelihood-0"].mean(), right["likelihood-1"].mean()]) and own.n == 12
    assert own.difference is not None
    moved = (right[["likelihood-0", "likelihood-1"]].mean(1) - right["base"]).mean()
    assert own.difference.difference == pytest.approx(moved)
    (table,) = [
        t for one in found if one.card == "reference" for t in one.tables if t.title.endswith("that they recover")
    ]
    assert (own.generated, own.trained) == tuple(table.lines[0][-2:]), "what it cost"
    assert named["base, greedy"].difference is None and named["base, greedy"].cards == ("one-example", "reference")
    few = elicitors(store, found, SETTING, ("baseline", "steered"))
    assert {line.role for line in few} == {"baseline", "steered"}
    heads = overview_table(lines, SETTING).heads
    assert all(len(line) == len(heads) for line in overview_table(lines, SETTING).lines)
    assert np.isclose(own.right, np.mean(own.seeds))


def test_lines_of_one_name_say_what_tells_them_apart(store: Store, tmp_path: Path) -> None:
    shutil.copytree(store.root, tmp_path / "runs")
    copy = Store(tmp_path / "runs")
    short = BARE.model_copy(update={"max_new_tokens": HALF})
    given = SMALL | {"n": 12, "arms": ["likelihood", "full"]}
    run_card(CARDS["reference"], short, copy, given=given, console=QUIET)
    shown = [line.label for line in elicitors(copy, stored_findings(copy)[0], SETTING)]
    assert len(set(shown)) == len(shown), shown
    for tokens in (BARE.max_new_tokens, HALF):
        assert any(name.startswith(f"thinking model (tokens per text {tokens}") for name in shown), shown
    alone = [line.label for line in elicitors(store, stored_findings(store)[0], SETTING)]
    assert not any("(tokens per text" in name for name in alone)


def test_what_is_not_one_table_is_refused(store: Store, tmp_path: Path) -> None:
    found, _ = stored_findings(store)
    with pytest.raises(BadInput, match="'luck'"):
        elicitors(store, found, "luck")
    with pytest.raises(BadInput, match="holds no findings"):
        elicitors(Store(tmp_path), [], SETTING)
    other: Findings = found[0].model_copy(update={"pair": ("builtin:careful-base", None)})
    with pytest.raises(BadInput, match="several pairs, tasks or weights"):
        elicitors(store, [*found, other], SETTING)


def test_what_is_damaged_says_which_file_and_what_to_do(store: Store, tmp_path: Path) -> None:
    shutil.copytree(store.root, tmp_path / "runs")
    copy = Store(tmp_path / "runs")
    found, _ = stored_findings(copy)
    (path,) = (copy.root / ".elicitation").glob("reference-*.json")
    whole = path.read_bytes()
    path.write_bytes(whole[:300])
    given = SMALL | {"n": 12, "arms": ["likelihood", "full"]}
    with pytest.raises(BadInput, match=rf"{path.name} holds no findings.*delete it"):
        run_card(CARDS["reference"], BARE, copy, given=given, console=QUIET)
    assert "delete it and run its card again" in stored_findings(copy)[1][0]
    path.write_bytes(whole)
    (run,) = {p.run for one in found if one.card == "reference" for p in one.points}
    for shard in (copy.root / run / "rows").iterdir():
        shard.unlink()
    with pytest.raises(BadInput, match=f"rows of run {run}.*run the card again"):
        elicitors(copy, found, SETTING)
    training = next((copy.root / ".elicitation" / "trained").glob("grpo-*.json"))
    training.write_bytes(training.read_bytes()[:50])
    with pytest.raises(BadInput, match=rf"{training.name} is damaged.*delete it"):
        read_trained(training)


def test_the_command_prints_the_table_and_refuses_what_is_not_there(store: Store, steer: Steer, tmp_path: Path) -> None:
    runs = ("--runs", str(store.root))
    whole = json.loads(steer("overview", *runs, "--json")[1])
    records = whole["records"]
    assert len(records) == 6 and "not paired" in whole["notes"][0]
    assert records[0]["elicitor"] == "base, greedy" and records[0]["over_base"] is None
    for record in records:
        assert record["n"] == 12 and record["right"] == pytest.approx(np.mean(record["right_by_seed"]))
        assert 0 <= record["right"] <= 1 and isinstance(record["tokens_per_question"], float)
        if record["over_base"] is not None:
            assert record["over_base_low"] <= record["over_base"] <= record["over_base_high"]
    few = json.loads(steer("overview", *runs, "--json", "--no-controls", "--card", "one-example")[1])
    assert [line["elicitor"] for line in few["records"]] == [
        "base, greedy", "base, asked to think first", "the full set, right answers", "thinking model",
    ]  # fmt: skip
    assert steer("overview", *runs, "--markdown")[1].startswith("**bare prompts: every elicitor of the store**")
    for given, said in (
        (("--card", "luck"), "no findings of it"),
        (("--pair", "careful"), "no findings of careful"),
        (("--task", "short:story"), "no findings on short:story; it has find-start"),
        (("--figure", tmp_path / "x.pdf"), ".svg or .png"),
        (("--figure", tmp_path / "x.svg"), "the card fingerprint"),
    ):
        code, _, error = steer("overview", *runs, *given)
        assert code == 2 and said in error, error
