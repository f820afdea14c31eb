"""The layer of a direction: chosen on development problems, held against a sweep on test problems."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from experiments.commands.attribution import attribute, facts, layers_table, sentences, writers_table
from experiments.store.runs import Store
from experiments.studies.demo import BASE, THINKING
from experiments.studies.layer_choice import (
    TEST,
    LayerChoice,
    Sweep,
    builtin_asking,
    choose_layer,
    layer_vectors,
    run_layer_choice,
    starting_tokens,
)
from steering.errors import BadInput
from steering.model.models import LoadedModel, load_model


@pytest.fixture(scope="module")
def models() -> dict[str, LoadedModel]:
    return {name: load_model(name) for name in (BASE, THINKING)}


@pytest.fixture(scope="module")
def found(
    models: dict[str, LoadedModel], tmp_path_factory: pytest.TempPathFactory
) -> tuple[LayerChoice, Sweep, pd.DataFrame]:
    return run_layer_choice(Store(tmp_path_factory.mktemp("layers")), models, asking=builtin_asking(30, 16))


def test_reasoning_begins_with_words_that_no_quick_answer_begins_with(models: dict[str, LoadedModel]) -> None:
    words = models[BASE].tokenizer.convert_ids_to_tokens(list(starting_tokens(models[BASE])))
    assert "let" in words and "answer" not in words


def test_both_methods_choose_the_same_layer_on_the_built_in_pair(
    found: tuple[LayerChoice, Sweep, pd.DataFrame],
) -> None:
    choice, _, _ = found
    layers, cells, problems = choice.agreement
    assert choice.ranked() == choice.ranked("attributed")
    assert layers.rho == pytest.approx(1.0) and layers.n == 4
    assert cells.rho > 0.8 and cells.n == 24
    assert problems.rho > 0.9 and problems.n == 32
    assert choice.same_layer[0] >= 30
    assert (choice.layers.exact > 0).all() and (choice.layers.attributed > 0).all()


def test_the_chosen_layer_beats_the_worst_on_held_out_problems(found: tuple[LayerChoice, Sweep, pd.DataFrame]) -> None:
    choice, sweep, _ = found
    lead = sweep.against[sweep.worst]
    assert (sweep.chosen, sweep.worst) == (choice.ranked()[0], choice.ranked()[-1])
    assert lead.n == 60 and lead.interval.low > 0.2 and lead.p < 1e-3
    assert sweep.accuracy[f"layer_{sweep.chosen}"] - sweep.accuracy[f"layer_{sweep.worst}"] == pytest.approx(
        lead.difference
    )
    assert all(sweep.adjusted[layer] >= d.p for layer, d in sweep.against.items())
    assert set(sweep.run.manifest.splits) == set(TEST)


def test_writers_are_the_parts_of_the_stream(found: tuple[LayerChoice, Sweep, pd.DataFrame]) -> None:
    _, sweep, writers = found
    assert set(writers.component) == {"embedding", "head", "mlp"} and writers.layer.max() == sweep.chosen
    assert writers.difference.abs().is_monotonic_decreasing


def test_the_report_says_the_numbers(found: tuple[LayerChoice, Sweep, pd.DataFrame]) -> None:
    choice, sweep, writers = found
    assert layers_table(choice, sweep).row_count == 4
    text = " ".join(sentences(choice, sweep))
    assert (
        "Spearman over layers: 1.00, n = 4." in text
        and f"Ranked first on development problems: layer {sweep.chosen}" in text
    )
    document = json.loads(json.dumps(facts(choice, sweep, writers)))
    assert document["chosen"] == {"exact": sweep.chosen, "attributed": sweep.chosen, "last": sweep.worst}


def test_what_writes_the_direction_stands_under_the_names_of_the_forms(
    found: tuple[LayerChoice, Sweep, pd.DataFrame],
) -> None:
    shown = writers_table(found[2], 2, "cot", "direct")
    assert [column.header for column in shown.columns] == ["part", "cot", "direct", "difference"]
    assert shown.title == "What writes the direction at layer 2: form cot against form direct"


def test_an_agreement_that_is_not_defined_is_said_in_words(found: tuple[LayerChoice, Sweep, pd.DataFrame]) -> None:
    choice = replace(found[0], agreement=tuple(replace(one, rho=float("nan")) for one in found[0].agreement))
    text = " ".join(sentences(choice, found[1]))
    assert "nan" not in text and "not defined, as one of the two does not vary" in text


def test_mistakes_are_refused(models: dict[str, LoadedModel], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Did you mean 'mode'"):
        layer_vectors(models[BASE], models[THINKING], "mod")
    app = typer.Typer()
    app.command()(attribute)
    result = CliRunner().invoke(app, ["--contrast", "mod", "--runs", str(tmp_path)])
    assert isinstance(result.exception, BadInput)


def test_a_choice_by_few_problems_is_a_choice(models: dict[str, LoadedModel]) -> None:
    vectors = layer_vectors(models[BASE], models[THINKING], "mode", problems=16)
    choice = choose_layer(
        models[BASE], vectors, starting_tokens(models[BASE], 32), contrast="mode", dose=0.5, asking=builtin_asking(2, 2)
    )
    assert sorted(choice.ranked()) == [0, 1, 2, 3] and choice.agreement[2].n == 4
