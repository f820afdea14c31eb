"""Targets as labelled positions, and maps over layers and positions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probes.labels import BehaviourLabel
from probes.maps import by_offset, by_step, probe_map
from probes.targets import Examples, at_positions, correctness, disagreement, greedy_tokens, next_behaviour
from steering.errors import BadInput
from steering.model.sites import Site
from tests.tiny import VOCABULARY, tiny


def spans(*found: tuple[int, int, str]) -> tuple[BehaviourLabel, ...]:
    return tuple(BehaviourLabel(a, b, k, "exact", 1.0, "tokens") for a, b, k in found)


def test_behaviour_is_read_before_its_span_begins() -> None:
    labels = [spans((0, 2, "open"), (2, 4, "back")), spans((1, 2, "back"), (1, 3, "open"), (3, 4, "rare"))]
    found = next_behaviour([[1, 9], [1]], [[3, 4, 5, 6], [3, 4, 5, 6]], labels, ["a", "b"], ("open", "back"))
    assert found.reading.positions == ((1, 3), (1,)), "the last prompt token, and the token before each span"
    assert [found.classes[k] for k in found.y] == ["open", "back", "back"] and found.groups == ("a", "a", "b")
    assert found.counts == {"open": 1, "back": 2}
    with pytest.raises(BadInput, match="in tokens"):
        next_behaviour([[1]], [[3, 4]], [[BehaviourLabel(0, 1, "x", "d", 0.5)]], ["a"])


def test_correctness_is_read_at_the_end_of_each_step() -> None:
    found = correctness([[1, 9]] * 2, [[3, 4, 5, 6]] * 2, [[2, 4], [3]], [True, False], ["a", "b"])
    assert found.reading.positions == ((3, 5), (4,)) and found.y == (1, 1, 0) and found.steps == (0, 1, 0)
    second = found.at_step(1)
    assert second.reading.positions == ((5,), ()) and second.y == (1,) and second.groups == ("a",)
    with pytest.raises(BadInput, match=r"steps \[0, 1\]"):
        found.at_step(5)


def test_disagreement_is_with_the_token_written_next() -> None:
    model = tiny("llama")
    prompts, responses = [[1, 9], [1, 9, 10]], [[12, 13, 14], [20]]
    found = disagreement(model, prompts, responses, ["a", "b"])
    assert found.reading.positions == ((1, 2, 3), (2,))
    for p, r, positions in zip(prompts, responses, found.reading.positions, strict=True):
        ids = [*p, *r]
        logits = model.model(input_ids=torch.tensor([ids])).logits[0]
        own = logits.argmax(-1).tolist()
        here = [i for i, g in enumerate(found.groups) if g == ("a" if len(r) == 3 else "b")]
        assert [found.y[i] for i in here] == [int(own[q] != ids[q + 1]) for q in positions]
        assert greedy_tokens(model, [ids, [1, 5]])[0] == own
    agreeing = greedy_tokens(model, [[1, 9]])[0][-1]
    assert disagreement(model, [[1, 9]], [[agreeing]], ["a"]).y == (0,)


def test_samples_are_taken_and_shifted_with_their_labels() -> None:
    sequences = [[1, 9, 10, 11], [1, 12, 13]]
    found = Examples(
        "t",
        at_positions("t", sequences, [-1, 0], [0, 1], ["a", "b"], ("x", "y")).reading,
        (0, 1),
        ("a", "b"),
        ("x", "y"),
    )
    assert found.windows(2).tolist() == [[11, 10], [1, -1]]
    moved = found.shifted(-1)
    assert moved.reading.positions == ((2,), ()) and moved.y == (0,) and moved.groups == ("a",)
    assert found.shifted(1).y == (1,), "a position past the end is left out"
    with pytest.raises(BadInput, match="two classes in 12 groups"):
        found.usable()
    with pytest.raises(BadInput, match="1 labels"):
        Examples("t", found.reading, (0,), ("a", "b"), ("x", "y"))


def test_rare_classes_are_left_out_and_the_others_numbered_again() -> None:
    y = [0] * 3 + [1] * 6 + [2] * 6
    found = at_positions("t", [[1, 5 + i] for i in range(15)], [-1] * 15, y, [str(i) for i in range(15)], tuple("abc"))
    kept = found.usable(6)
    assert kept.classes == ("b", "c") and kept.y == (0,) * 6 + (1,) * 6 and kept.n == 12


def test_a_map_finds_where_something_can_be_read_and_what_tokens_say() -> None:
    """The label is the parity of token 2. It can be read at token 2 (as the id tells), at later ones only through attention."""
    model, rng = tiny("llama"), np.random.default_rng(0)
    sequences = [[1, *rng.integers(8, VOCABULARY, 3).tolist(), 9] for _ in range(240)]
    y = [s[2] % 2 for s in sequences]
    found = at_positions("parity", sequences, [2] * 240, y, [str(i) for i in range(240)], ("even", "odd"))
    table = probe_map(model, by_offset(found, [-1, 0]), [Site(0), Site(2)])
    cells = table.set_index(["site", "position"])
    assert len(table) == 4 and set(table["position"]) == {"-1", "0"}
    assert cells.loc[("blocks.0.hook_resid_post", "0"), "low"] > 0.5
    assert cells.loc[("blocks.0.hook_resid_post", "0"), "tokens"] > 0.95
    for site in ("blocks.0.hook_resid_post", "blocks.2.hook_resid_post"):
        before = cells.loc[(site, "-1")]
        assert before["low"] < 0.5 < before["high"], "a causal model cannot read what comes after"
    assert (table["low"] <= table["auroc"]).all() and (table["auroc"] <= table["high"]).all()
    with pytest.raises(BadInput, match="at least one site"):
        probe_map(model, {}, [Site(0)])


def test_steps_are_columns_of_a_map() -> None:
    found = correctness(
        [[1, 9]] * 40, [[8 + i, 9 + i % 5, 12] for i in range(40)], [[1, 3]] * 40, [i % 2 == 0 for i in range(40)],
        [str(i) for i in range(40)],
    )  # fmt: skip
    table = probe_map(tiny("llama"), by_step(found, [0, 1]), [Site(1)])
    assert table["position"].tolist() == ["step 1", "step 2"] and table["n"].tolist() == [40, 40]
