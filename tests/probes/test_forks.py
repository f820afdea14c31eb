"""Forking tokens: a hand-computed batch, the entropy gate in a real plan, and two sets of generations compared."""

from __future__ import annotations

import numpy as np
import pytest

from probes.forks import (
    entropy_gate,
    find_forks,
    fork_labels,
    fork_positions,
    fork_shift,
    fork_threshold,
    fork_tokens,
)
from probes.labels import BehaviourLabel
from steering.engine.generation import Generation, Receipt, Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from tests.tiny import plan, tiny


def made(tokens: list[int], entropy: list[float], prompt: tuple[int, ...] = (1,)) -> Generation:
    n = len(tokens)
    return Generation(prompt, tuple(tokens), "eos", (0.0,) * n, tuple(entropy), (), (), Receipt(0, 0, ()))


BATCH = [made([4, 5, 4, 6, 7], [0.0, 0.1, 1.0, 0.2, 0.0]), made([4, 8, 4, 9, 7], [0.3, 2.0, 1.5, 0.0, 0.0])]
ENTROPIES = [g.entropy for g in BATCH]


def test_the_threshold_is_the_quantile_of_the_batch_and_not_of_a_row() -> None:
    # Sorted: 0 0 0 0 .1 .2 .3 1 1.5 2. The 0.8 quantile lies at index 7.2: 1 + 0.2 (1.5 - 1) = 1.1.
    assert fork_threshold(ENTROPIES, 0.2) == pytest.approx(1.1)
    forks = find_forks(ENTROPIES)
    assert [m.tolist() for m in forks.masks] == [[False] * 5, [False, True, True, False, False]]
    assert forks.share == 0.2 and forks.tokens == 10
    by_row = [fork_threshold([row]) for row in ENTROPIES]
    assert by_row[0] < 1.1 < by_row[1], "a threshold per row would have called other tokens forks"
    assert find_forks([[1.0] * 10]).share == 1.0, "equal entropies are all forks, and the share says so"


def test_where_forks_fall() -> None:
    forks = find_forks(ENTROPIES)
    words = [[f"w{t}" for t in g.token_ids] for g in BATCH]
    table = fork_tokens(BATCH, forks, words)
    assert table.loc[0].tolist() == ["w8", 1, 1, 1.0, 2.0]
    assert table.loc[1].tolist() == ["w4", 4, 1, 0.25, pytest.approx((0 + 1 + 0.3 + 1.5) / 4)]
    places = fork_positions(forks, bins=5)
    assert places["forks"].tolist() == [0, 1, 1, 0, 0] and places["share"].tolist() == [0, 0.5, 0.5, 0, 0]
    labels = [
        [BehaviourLabel(0, 5, "computing", "exact", 1.0, "tokens")],
        [
            BehaviourLabel(0, 2, "computing", "exact", 1.0, "tokens"),
            BehaviourLabel(2, 4, "back", "exact", 1.0, "tokens"),
        ],
    ]
    by_label = fork_labels(forks, labels).set_index("label")["share"].to_dict()
    assert by_label == {"computing": pytest.approx(1 / 7), "back": 0.5}
    assert fork_labels(forks, labels, starts=True).set_index("label")["share"].to_dict() == {
        "computing": 0.0,
        "back": 1.0,
    }


def test_what_two_sets_of_generations_show() -> None:
    calmer = [made([4, 5, 4, 6], [0.0, 0.1, 1.2, 0.2]), made([4, 8, 4, 9, 7, 7], [0.3, 0.2, 0.5, 0.0, 0.0, 0.0])]
    found = fork_shift(BATCH, calmer)
    assert found.threshold == pytest.approx(1.1) and found.rows == 2
    assert (found.before.value, found.after.value) == (0.2, 0.1)
    assert found.difference.value == pytest.approx(-0.1)
    assert found.entropy.value == pytest.approx(2.5 / 10 - 5.1 / 10)
    # Fork tokens before: 8 and 4; after: 4 alone. Total variation: (|1/2| + |1/2 - 1|) / 2.
    assert found.tokens_moved == pytest.approx(0.5)
    same = fork_shift(BATCH, BATCH)
    assert same.difference.value == 0 and same.tokens_moved == 0 and same.difference.low == same.difference.high == 0
    with pytest.raises(BadInput, match="same prompts"):
        fork_shift(BATCH, BATCH[:1])


def test_nothing_to_find_is_refused() -> None:
    for entropies, share, told in (
        ([], 0.2, "no entropies"),
        ([[]], 0.2, "no entropies"),
        ([[1.0]], 1.0, "between 0 and 1"),
    ):
        with pytest.raises(BadInput, match=told):
            fork_threshold(entropies, share)


@pytest.mark.parametrize("below", [False, True])
def test_steering_at_forks_edits_exactly_the_tokens_above_the_threshold(below: bool) -> None:
    model = tiny("llama")
    prompts = [(1, 9, 10 + i, 11) for i in range(6)]
    settings = GenerationSettings(24, temperature=1.0, logit_bias=((2, -100.0),))
    plain = generate(model, [Row(p, seed=i) for i, p in enumerate(prompts)], settings)
    forks = find_forks([g.entropy for g in plain])
    exact = float(np.float32(forks.threshold))
    gate = entropy_gate(exact, below=below)
    at_forks = plan(gate=gate)
    steered = generate(model, [Row(p, at_forks, seed=i) for i, p in enumerate(prompts)], settings)
    edited = 0
    for generation in steered:
        start = len(generation.prompt_ids)
        entropy = np.array(generation.entropy[:-1])  # the last token is never fed
        expected = start + np.flatnonzero(entropy < exact if below else entropy >= exact)
        assert generation.receipt.positions == tuple(expected.tolist())
        edited += len(expected)
    assert 0 < edited < 6 * 23


def test_the_gate_is_open_at_the_threshold_itself() -> None:
    import torch

    values = torch.tensor([0.69, 0.7, 0.71])
    for threshold in (0.7, float(np.float32(0.7))):
        gate, rest = entropy_gate(threshold), entropy_gate(threshold, below=True)
        forks = values.double().numpy() >= threshold
        assert (values > gate.threshold).tolist() == forks.tolist()
        assert (values < rest.threshold).tolist() == (~forks).tolist()
