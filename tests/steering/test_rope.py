"""Rotary factors that depend on length go by each row's own, in every path; what cannot be so is refused before the model runs."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Phi3Config

from steering.attribution.effects import attributed
from steering.attribution.metric import continuation
from steering.engine.forced import ForcedText, forced_divergence
from steering.engine.generation import Row, generate
from steering.engine.prefix import SharedPrompts
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput, Cancelled
from steering.hybrid import HybridRow, decode
from steering.model.capture import capture
from steering.model.models import LoadedModel, wrap
from steering.model.sites import Site
from steering.plan.plan import Plan
from tests.naive import naive_generate, naive_logits
from tests.steering.hybrid.pairs import naive as naive_hybrid
from tests.steering.hybrid.pairs import rule
from tests.tiny import _MODERN, VOCABULARY, plan, tokenizer, vector

LIMIT = 24
SHORT, LONG = [1.0, 1.1, 1.3, 1.4], [1.5, 4.0, 9.0, 17.0]
KINDS = {
    "longrope": {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, "original_max_position_embeddings": LIMIT},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "linear": {"rope_type": "linear", "factor": 2.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24},
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 24,
    },
}  # fmt: skip


def made(kind: str, family: str = "llama", seed: int = 0) -> LoadedModel:
    torch.manual_seed(seed)
    parameters = {**KINDS[kind], "rope_theta": 10000.0}
    if family == "phi3":
        config = Phi3Config(**_MODERN, rope_parameters=parameters, original_max_position_embeddings=LIMIT)
    else:
        config = LlamaConfig(
            **{**_MODERN, "max_position_embeddings": 48 if kind == "dynamic" else 96}, rope_parameters=parameters
        )
    model = AutoModelForCausalLM.from_config(config).float()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8.0)
    return wrap(model, tokenizer(), id=f"tiny-{family}-{kind}")


@pytest.fixture(scope="module", params=[("longrope", "phi3"), ("longrope", "llama"), ("dynamic", "llama"), ("linear", "llama"),
                                        ("yarn", "llama"), ("llama3", "llama")], ids="-".join)  # fmt: skip
def model(request: pytest.FixtureRequest) -> LoadedModel:
    return made(*request.param)


@pytest.fixture(scope="module")
def phi() -> LoadedModel:
    return made("longrope", "phi3")


def prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(100 * length + seed)
    return (1, *torch.randint(3, VOCABULARY, (length - 1,), generator=generator).tolist())


def test_a_row_is_the_row_alone_whatever_its_neighbours_length(model: LoadedModel) -> None:
    new = 8
    plans = [Plan(), plan("add", "all", 1.0), plan("add", "generated", 2.0), plan("add", "position:8", 4.0), Plan()]
    lengths = [10, 30, 12, 28, 25, 17, 36, 5, 30, 9]
    rows = [Row(prompt(n, k), plans[k % len(plans)]) for k, n in enumerate(lengths)]
    rows += [Row(prompt(30, 50)), *(Row(prompt(30, 1), p) for p in plans), *(Row(prompt(10, 0), p) for p in plans)]
    for batch_size in (64, 4):
        found = generate(model, rows, GenerationSettings(new), batch_size=batch_size)
        for row, generation in zip(rows, found, strict=True):
            expected = naive_generate(model, row.prompt_ids, row.plan, new)
            assert list(generation.token_ids) == expected, (len(row.prompt_ids), row.plan.to_yaml())
            for step in (0, len(expected) - 1):  # as the row stood then: its length decides
                ids = [*row.prompt_ids, *expected[:step]]
                logprobs = naive_logits(model, ids, row.plan, len(row.prompt_ids))[-1].log_softmax(-1)
                assert generation.logprob[step] == pytest.approx(float(logprobs[expected[step]]), abs=2e-3)


def test_the_comparison_tells_factors_apart(phi: LoadedModel) -> None:
    ids = torch.tensor([prompt(30)])
    with torch.inference_mode():
        natural, short = phi.model(ids).logits, None
        with phi.rope.fixed(False):
            short = phi.model(ids).logits
        with phi.rope.fixed(True):
            assert torch.allclose(phi.model(ids).logits, natural, atol=1e-5)
        assert float((short - natural).norm() / natural.norm()) > 0.05
        assert torch.equal(phi.model(ids).logits, natural), "the model is as it was afterwards"


def test_a_row_that_would_pass_the_limit_is_refused_before_the_model_runs(
    phi: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = GenerationSettings(LIMIT - 18 + 1)
    (found,) = generate(phi, [Row(prompt(18))], fits)
    assert list(found.token_ids) == naive_generate(phi, prompt(18), Plan(), fits.max_new_tokens)
    monkeypatch.setattr(type(phi.model), "forward", lambda *a, **k: pytest.fail("a forward pass ran"))
    with pytest.raises(
        BadInput, match=r"18 prompt tokens \+ max_new_tokens 8 pass 24, .* Set max_new_tokens to at most 7"
    ):
        generate(phi, [Row(prompt(30)), Row(prompt(18))], GenerationSettings(8))
    with pytest.raises(BadInput, match="Row 0 as tiny-phi3-longrope reads it: 18 prompt tokens"):
        decode(phi, phi, [HybridRow(prompt(18), rule("hybrid"))], GenerationSettings(8))


def test_lengths_at_which_dynamic_factors_begin_are_refused() -> None:
    with pytest.raises(BadInput, match="exceed the context"):
        generate(made("dynamic"), [Row(prompt(41))], GenerationSettings(8))


def test_a_bad_span_of_a_long_row_is_refused_before_a_short_row_runs(
    phi: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(phi.model), "forward", lambda *a, **k: pytest.fail("a forward pass ran"))
    with pytest.raises(BadInput, match="matches nothing"):
        generate(phi, [Row(prompt(10)), Row(prompt(30), plan("add", 'text:"nowhere"'))], GenerationSettings(4))


def test_cancelling_keeps_rows_of_both_sides(phi: LoadedModel) -> None:
    rows, asked = [Row(prompt(30, k)) for k in range(2)] + [Row(prompt(10, k)) for k in range(2)], []
    with pytest.raises(Cancelled) as caught:
        generate(phi, rows, GenerationSettings(8), cancel=lambda: asked.append(0) or len(asked) > 2)
    assert sorted(caught.value.generations) == [2, 3], "rows of the other side were not begun"


def test_the_compiled_step_uses_the_rows_own_side(phi: LoadedModel) -> None:
    rows = [Row(prompt(n), plan("add", "generated", 2.0)) for n in (10, 30)]
    found = generate(phi, rows, GenerationSettings(6), compiled=True)
    assert [list(g.token_ids) for g in found] == [naive_generate(phi, r.prompt_ids, r.plan, 6) for r in rows]


def test_captured_activations_are_those_of_the_sequence_alone(model: LoadedModel) -> None:
    sequences = [prompt(n) for n in (10, 30, 24, 25, 5, 40)]
    sites = [Site(0), Site(1, "attn_out"), Site(2)]
    (together,) = capture(model, sequences, sites)
    assert together.rows == tuple(range(6))
    for row, sequence in enumerate(sequences):
        (alone,) = capture(model, [sequence], sites)
        assert together.mask[row].tolist() == [n < len(sequence) for n in range(40)]
        for site in sites:
            assert torch.allclose(together.values[site][row, : len(sequence)], alone.values[site][0], atol=1e-4)


def test_forced_readings_are_those_of_the_text_alone(model: LoadedModel) -> None:
    texts = [ForcedText(prompt(n), prompt(6, 9)[1:], plan("add", "generated", 2.0)) for n in (10, 30, 15, 20, 28)]
    together = forced_divergence(model, texts)
    for text, reading in zip(texts, together, strict=True):
        ids = [*text.prompt_ids, *text.token_ids]
        logprobs = naive_logits(model, ids, text.plan, len(text.prompt_ids)).log_softmax(-1)
        expected = [float(logprobs[len(text.prompt_ids) + n - 1, token]) for n, token in enumerate(text.token_ids)]
        assert reading.logprob == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("name", ["hybrid", "entropy, kept"])
def test_hybrid_rows_of_both_sides_equal_the_naive_hybrid(phi: LoadedModel, name: str) -> None:
    other, controller = made("longrope", "phi3", seed=1), rule(name)
    rows = [HybridRow(prompt(a), controller, prompt(b)) for a, b in ((10, 12), (30, 33), (10, 29), (8, 8))]
    found = decode(phi, other, rows, GenerationSettings(6), batch_size=3)
    for row, generation in zip(rows, found, strict=True):
        tokens, _ = naive_hybrid(phi, other, list(row.prompt_ids), controller, 6, thinking_prompt=list(row.theirs))
        assert list(generation.token_ids) == tokens


def test_passes_that_cannot_part_sequences_refuse_them(phi: LoadedModel) -> None:
    metric = continuation([prompt(10), prompt(30)], [(5, 6), (5, 6)])
    with pytest.raises(BadInput, match="on both sides of 24"):
        attributed(phi, [vector()], metric)


def test_prompts_that_many_rows_share_are_read_on_their_own_side(phi: LoadedModel) -> None:
    plans = [
        Plan(),
        plan("add", "generated", 2.0),
        plan("add", "after_n:1", -3.0, seed=1),
        Plan(),
        plan("ablate", "generated"),
    ]
    rows = [Row(prompt(n), p) for n in (10, 30) for p in plans]
    calls: list[int] = []
    own = SharedPrompts.attended

    def counted(self: SharedPrompts, *args: object) -> object:
        calls.append(len(self.of_place))
        return own(self, *args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SharedPrompts, "attended", counted)
        found = generate(phi, rows, GenerationSettings(8))
    assert calls, "the prompts must be shared, or this comparison proves nothing"
    assert [list(g.token_ids) for g in found] == [naive_generate(phi, r.prompt_ids, r.plan, 8) for r in rows]
