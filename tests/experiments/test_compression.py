"""Compression: texts that are cut at equal tokens, and the direction of a model's own short texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from experiments.store.runs import Store
from experiments.studies.elicitation.asked import Elicit, Setting
from experiments.studies.elicitation.named import card_named
from experiments.studies.elicitation.run import run_card
from experiments.studies.elicitation.shortening import cut_at, cut_to, length_direction
from experiments.studies.elicitation.stated import Reflected
from experiments.studies.elicitation.workroom import Workroom
from steering.errors import BadInput
from steering.extraction import Reading, paired_difference
from steering.model.sites import Site

QUIET = Console(quiet=True)
HARD = Setting(name="hard", split="hard-test", form="think")


def text(tokens: int, ends: tuple[int, ...], right: bool = True) -> Reflected:
    """A text with its steps' ends and nothing else."""
    return Reflected(str(tokens), tokens, right, None, (), None, None, (1,), ends, tuple(range(tokens)))


def test_a_cut_text_ends_with_a_step_and_costs_what_is_kept_and_the_cue() -> None:
    texts = [text(10, (3, 6, 10)), text(4, (4,))]
    assert cut_at(texts, 10, cue=1) == [(-1, 10), (-1, 4)]
    assert cut_at(texts, 9, cue=1) == [(2, 7), (-1, 4)], "six tokens and the cue"
    assert cut_at(texts, 6, cue=1) == [(1, 4), (-1, 4)]
    assert cut_at(texts, 2, cue=1) == [(0, 1), (0, 1)], "nothing but the cue"


def test_cut_texts_never_cost_more_than_what_they_stand_beside() -> None:
    rng = np.random.default_rng(0)
    texts, right = [], []
    for _ in range(30):
        ends = tuple(np.cumsum(rng.integers(1, 9, size=rng.integers(1, 7))).tolist())
        texts.append(text(ends[-1], ends, bool(rng.random() < 0.5)))
        right.append([bool(x) for x in rng.random(len(ends) + 1) < 0.5])
    whole = float(np.mean([one.tokens for one in texts]))
    costs = []
    for tokens in (2.0, 5.0, 10.0, whole):
        held, cost = cut_to(texts, right, tokens, cue=2)
        assert cost <= tokens and set(held) <= {0.0, 1.0} and len(held) == 30
        costs.append(cost)
    assert costs == sorted(costs) and costs[-1] == whole
    held, _ = cut_to(texts, right, whole, cue=2)
    assert held.tolist() == [float(one.right) for one in texts], "nothing is cut"
    nothing, price = cut_to(texts, right, 0.5, cue=2)
    assert nothing.tolist() == [float(own[0]) for own in right] and price == 2.0


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Workroom:
    asked = Elicit(settings=(HARD,), max_new_tokens=200)
    return Workroom(asked, Store(tmp_path_factory.mktemp("short")), QUIET)


def test_the_length_direction_is_short_minus_long_at_the_last_token(room: Workroom) -> None:
    made = length_direction(room, HARD, "hard-dev", n=6, samples=4, temperature=1.0, layer=2)
    assert made.vector is not None and made.vector.site == Site(2) and "pairs of texts" in made.said
    run = room.store.open(room.runs[-1])
    own: dict[str, list[tuple[int, ...]]] = {}
    for row in run.table().to_pylist():
        if row["finish"] == "eos":
            own.setdefault(row["item"], []).append((*row["prompt_ids"], *row["token_ids"][:-1]))
    pairs = [(min(texts, key=len), max(texts, key=len)) for _, texts in sorted(own.items())]
    pairs = [(short, long) for short, long in pairs if len(short) < len(long)]
    assert f"from {len(pairs)} pairs" in made.said
    short, long = (
        Reading(tuple(p[at] for p in pairs), tuple((len(p[at]) - 1,) for p in pairs)) for at in (0, 1)
    )  # fmt: skip
    expected = paired_difference(room.base, short, long, [Site(2)], name="x", contrast="x")[Site(2)]
    assert (made.vector.direction == expected.direction).all()


def test_without_questions_of_another_split_there_is_no_direction_and_that_is_said(room: Workroom) -> None:
    assert "no split beside" in length_direction(room, HARD, None, 4, 2, 1.0, None).said
    few = length_direction(room, HARD, "hard-dev", n=2, samples=2, temperature=1.0, layer=None)
    assert few.vector is None and "fewer than 4" in few.said


def test_texts_that_all_end_at_the_limit_and_arms_that_are_right_nowhere_are_said_to(tmp_path: Path) -> None:
    given = {"n": 4, "n_dev": 4, "samples": 2, "doses": [1.0], "draws": 1}
    asked = Elicit(settings=(HARD,), max_new_tokens=4)
    found = run_card(card_named("compression"), asked, Store(tmp_path), given=given, console=QUIET)
    base = next(said for said in found.said if "which is shortened" in said)
    assert "all its 4 texts end at the limit of 4 tokens" in base
    table = next(table for table in found.tables if "beside the whole ones" in table.title)
    right, cut, front = (
        table.heads.index(h) for h in ("right % (95 %)", "at the limit", "on the front in % of resamples")
    )
    assert table.lines[0][cut] == 4
    nowhere = [line for line in table.lines if str(line[right]).startswith("0.0 ")]
    assert len(nowhere) > 1 and {line[front] for line in nowhere} == {"none: nothing is right"}
    assert any("there is no front" in said for said in found.said) == (len(nowhere) == len(table.lines))


def test_what_cannot_be_asked_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    for given, words in (
        ({"brief": "short"}, "brief"),
        ({"doses": [0.0]}, "doses are positive"),
        ({"doses": [float("nan")]}, "doses.0 is nan: a number that is finite"),
        ({"dev": "hard-test"}, "no other split"),
    ):
        with pytest.raises(BadInput, match=words):
            run_card(card_named("compression"), Elicit(settings=(HARD,)), Store(tmp_path), given=given, console=QUIET)
