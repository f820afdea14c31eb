"""The fields of every card say what they are, and docs/cards/fields.md lists them as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.studies.elicitation.fields import fields_table
from experiments.studies.elicitation.named import CARDS as UNTRAINED
from experiments.studies.elicitation.refused import FOUND
from experiments.studies.elicitation.run import options_of
from experiments.studies.elicitation.written import table_parts
from experiments.studies.training.named import CARDS as TRAINED
from steering.errors import BadInput
from tests.experiments.command_line import Steer, command

PAGE = Path(__file__).parents[2] / "docs" / "cards" / "fields.md"
steer = pytest.fixture(command)


@pytest.mark.parametrize("name", [*UNTRAINED, *TRAINED])
def test_every_field_says_what_it_is_and_the_page_has_it(name: str) -> None:
    card = (UNTRAINED | TRAINED)[name]
    table = fields_table(card)
    assert {line[0] for line in table.lines} == set(type(card.quick).model_fields) - set(FOUND)
    assert all(line[3] for line in table.lines), [line[0] for line in table.lines if not line[3]]
    whole = "\n\n".join(table_parts(table))
    assert whole in PAGE.read_text(), f"make {PAGE.name} anew with the two commands that it names"


def test_a_field_is_shown_as_it_is_set(steer: Steer) -> None:
    facts = json.loads(steer("train", "one-example", "--fields", "--json")[1])
    own = {fact["field"]: fact for fact in facts}
    assert own["seeds"]["quick"] == "[0, 1, 2]" and own["updates"]["what"].startswith("Steps")
    quick = options_of(TRAINED["one-example"], "quick", {"seeds": json.loads(own["seeds"]["quick"])})
    assert quick == TRAINED["one-example"].quick


def test_an_unknown_field_is_answered_with_all_there_are() -> None:
    with pytest.raises(BadInput) as caught:
        options_of(TRAINED["one-example"], "quick", {"luck": 1})
    assert all(field in str(caught.value) for field in type(TRAINED["one-example"].quick).model_fields)
    assert "more" not in str(caught.value)
