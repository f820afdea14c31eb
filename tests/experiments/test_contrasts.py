"""Vectors from a person's own texts: what is read is what was asked for, what is held out was not extracted from, and quality is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from experiments.studies.contrasts import METHODS, ContrastSpec, extract_contrast
from experiments.studies.sides import Body, Sides, Where, reading, text_sides
from experiments.tasks.own_texts import text_lines, text_pairs
from steering.errors import BadInput
from steering.extraction import mean_difference
from steering.extraction.samples import gathered
from steering.model.models import LoadedModel, load_model, wrap
from steering.model.prompts import token_texts
from steering.model.sites import Site
from tests.experiments.test_prompting import LLAMA31, QWEN3, R1
from tests.experiments.test_prompting import model as with_tokenizer

SITE = Site(1)
HIGH = [f"rules + {k} ; goal 31 start 42 91 ? think first" for k in range(2, 12)]
LOW = [f"rules + {k} ; goal 31 start 42 91 ? be quick" for k in range(2, 12)]


def templated(template: str | None, bos: str | None, adds_bos: bool) -> LoadedModel:
    """A tiny random model that reads every byte, with a chat template."""
    tokenizer = with_tokenizer(template, bos, adds_bos).tokenizer
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=24, max_position_embeddings=512,
    )  # fmt: skip
    return wrap(LlamaForCausalLM(config).float(), tokenizer, id="templated")


@pytest.fixture(scope="module")
def base() -> LoadedModel:
    return load_model("builtin:base")


def hidden(model: LoadedModel, ids: Sequence[int], layer: int = 1) -> torch.Tensor:
    """Residual stream after a layer, `[tokens, d_model]`, by the model's own output."""
    with torch.no_grad():
        out = model.model(input_ids=torch.tensor([list(ids)]), output_hidden_states=True, use_cache=False)
    return out.hidden_states[layer + 1][0].double()


# ---- which tokens are read ------------------------------------------------------------------------------------------------

PICKS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "last": lambda h: h[-1],
    "first": lambda h: h[1],
    "mean": lambda h: h[1:].mean(0),
    "index:2": lambda h: h[3],
    "index:-2": lambda h: h[-2],
    "span:1:4": lambda h: h[2:5].mean(0),
    "span:-3:-1": lambda h: h[-3:-1].mean(0),
}


@pytest.mark.parametrize("read", PICKS)
def test_a_vector_is_the_difference_of_what_was_asked_to_be_read(read: str) -> None:
    """The oracle reads the model's own hidden states; every text begins with BOS."""
    model = templated(None, "<bos>", True)
    high, low = ["yes, of course", "let us see it"], ["no, not at all", "this is it, then"]
    sides = text_sides(model, high, low, Where.parse(read))
    spec = ContrastSpec(sites=(str(SITE),), read=read, held_out=0)
    vector = extract_contrast(model, sides, spec)[SITE].vector
    assert all(body.ids[0] == model.tokenizer.bos_token_id for body in sides.positive)
    means = [
        torch.stack([PICKS[read](hidden(model, b.ids)) for b in side]).mean(0)
        for side in (sides.positive, sides.negative)
    ]
    assert torch.allclose(vector.direction.double(), means[0] - means[1], atol=1e-4)
    assert vector.provenance.notes["read"] == read


@pytest.mark.parametrize(
    ("template", "bos"), [(QWEN3, None), (R1, "<bos>"), (LLAMA31, "<|begin_of_text|>"), (None, "<bos>")]
)
@pytest.mark.parametrize("prompt", ["", "What is 2+2? "])
@pytest.mark.parametrize("text", ["user", "It is 4. Wait, naïve?", "  spaces  around  "])
def test_the_text_is_what_the_person_wrote_and_no_template(
    text: str, prompt: str, template: str | None, bos: str | None
) -> None:
    model = templated(template, bos, bos is not None)
    sides = text_sides(
        model, [text], [text], Where("mean"), prompts=[prompt] if prompt else None, chat=template is not None
    )
    (body,) = sides.positive
    ((start, end),) = body.spans
    read = model.tokenizer.decode(list(body.ids[start:end]))
    assert read == (text if prompt or template is None else (text if read == text else text.strip()))
    last = reading(sides.positive, Where("last"))
    assert last.positions == ((len(body.ids) - 1,),), "the last token is the last one that is fed"
    ends = {QWEN3: "<|im_start|>assistant\n", R1: "<think>\n", LLAMA31: "<|end_header_id|>\n\n"}
    fed = "".join(token_texts(model, body.ids))
    if template is not None and not prompt:
        assert fed.endswith(ends[template]) and reading(sides.positive, Where("index", -1)).positions[0][0] == end - 1


def test_a_chat_without_a_template_and_texts_that_are_too_short_or_too_long_are_refused() -> None:
    model = templated(None, "<bos>", True)
    with pytest.raises(BadInput, match="no chat template"):
        text_sides(model, ["a"], ["b"], Where(), chat=True)
    with pytest.raises(BadInput, match=r"Positive text 2 has 1 tokens; --read index:3 is not among them"):
        text_sides(model, ["abcde", "a"], ["abcd", "abcd"], Where.parse("index:3")).readings(Where.parse("index:3"))
    with pytest.raises(BadInput, match=r"Negative text 1 has 3 tokens; --read span:2:5"):
        text_sides(model, ["abcdefg"], ["abc"], Where.parse("span:2:5")).readings(Where.parse("span:2:5"))
    with pytest.raises(BadInput, match=r"Negative text 2 has \d+ tokens; .* reads at most \d+"):
        text_sides(model, ["a", "b"], ["a", "b" * model.context], Where())
    with pytest.raises(BadInput, match="cannot be told"):
        text_sides(templated(QWEN3, None, False), ["<think>"], ["b"], Where("mean"), chat=True)
    for wrong in ("lst", "index", "index:x", "span:1", "mean:2", "index:1:2"):
        with pytest.raises(BadInput, match="Did you mean 'last'|--read"):
            Where.parse(wrong)


# ---- methods ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_a_method_and_the_way_whose_stability_is_measured_give_one_direction(name: str, base: LoadedModel) -> None:
    sides = text_sides(base, HIGH, LOW, Where(), paired=True)
    spec = ContrastSpec(sites=(str(SITE), "blocks.2.hook_resid_post"), method=name, name="x", held_out=0.4)
    found = extract_contrast(base, sides, spec)
    assert set(found) == {SITE, Site(2)}
    training, held_out = sides.split(0.4, 0) or pytest.fail("it can be divided")
    high, low = (gathered(base, r, [SITE])[SITE] for r in training.readings(Where()))
    direction = METHODS[name].of_samples(high, low).double()
    assert torch.cosine_similarity(direction, found[SITE].vector.direction.double(), dim=0) > 0.9999
    stored = found[SITE].stored
    assert stored is not None and stored.training == (6, 6) and stored.held_out == (4, 4) and stored.method == name
    assert stored.report.digest == stored.vector == found[SITE].vector.digest
    if not METHODS[name].pairs:
        unpaired = text_sides(base, HIGH, LOW[:7], Where())
        assert extract_contrast(base, unpaired, spec)[SITE].stored is not None


def test_methods_that_do_not_fit_are_refused_with_those_that_do(base: LoadedModel) -> None:
    sides = text_sides(base, HIGH, LOW[:7], Where())
    spec = ContrastSpec(sites=(str(SITE),), method="principal")
    with pytest.raises(
        BadInput, match="needs pairs; for texts that do not pair, there are difference, principal-global, logistic"
    ):
        extract_contrast(base, sides, spec)
    with pytest.raises(BadInput, match="'labels' reads labelled spans"):
        extract_contrast(base, sides, spec.model_copy(update={"method": "labels"}))
    with pytest.raises(ValueError, match="Did you mean 'logistic'"):
        ContrastSpec(sites=(str(SITE),), method="logistics")
    with pytest.raises(ValueError, match="needs continuations to make likelier.*Offered here are difference, paired"):
        ContrastSpec(sites=(str(SITE),), method="optimised")


# ---- what is held out -------------------------------------------------------------------------------------------------------


def bodies(*names: int) -> tuple[Body, ...]:
    return tuple(Body((1, name), ((1, 2),), str(name)) for name in names)


@pytest.mark.parametrize("seed", range(6))
def test_what_belongs_together_is_held_out_together(seed: int) -> None:
    # pairs 0 and 1 share a negative, 1 and 2 a positive: the three stay together
    sides = Sides(bodies(10, 11, 11, *range(20, 30)), bodies(50, 50, 51, *range(60, 70)), (tuple(range(13)),) * 2, True)
    training, held_out = sides.split(0.4, seed) or pytest.fail("it can be divided")
    assert len(training.positive) + len(held_out.positive) == 13 and training.items[0] == training.items[1]
    assert len({i in held_out.items[0] for i in (0, 1, 2)}) == 1
    seen = {b.ids for side in (training.positive, training.negative) for b in side}
    assert not seen & {b.ids for side in (held_out.positive, held_out.negative) for b in side}
    assert 0 < len(held_out.positive) <= round(0.4 * 13)
    again = sides.split(0.4, seed)
    assert again is not None and again[1] == held_out


def test_seeds_draw_differently_and_sides_of_unequal_length_are_divided_alike() -> None:
    sides = Sides(bodies(*range(20)), bodies(*range(100, 110)), (tuple(range(20)), tuple(range(20, 30))), False)
    parts = [sides.split(0.3, seed) for seed in range(4)]
    assert len({p[1].items for p in parts if p}) > 1
    for part in parts:
        assert part and (len(part[1].positive), len(part[1].negative)) == (6, 3)
    assert Sides(bodies(1, 2, 3), bodies(5, 6, 7), ((0, 1, 2),) * 2, True).split(0.3, 0) is None
    assert Sides(bodies(1, 1, 1, 1, 1, 1), bodies(*range(6)), ((0, 1, 2, 3, 4, 5),) * 2, True).split(0.3, 0) is None


def test_text_pairs_are_read_from_every_kind_of_record(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("positive,negative,prompt\nyes,no,really?\n")
    (tmp_path / "p.json").write_text('[{"positive": "yes", "negative": "no", "prompt": "really?", "source": 3}]')
    assert text_pairs(tmp_path / "p.csv") == text_pairs(tmp_path / "p.json")
    assert text_lines(tmp_path / "p.csv")[1] == "yes,no,really?"


def test_attention_sinks_are_left_out_unless_the_reading_names_them() -> None:
    from tests.tiny import with_sink

    model, texts = with_sink(), ["w9 w10 w11", "w12 w13 w14", "w15 w16 w17", "w18 w19 w20"]
    others = ["w29 w30 w31", "w32 w33 w34", "w35 w36 w37", "w38 w39 w40"]
    spec = ContrastSpec(sites=("blocks.1.hook_resid_post",), read="mean", held_out=0.0)
    made = {}
    for read in ("mean", "mean+sinks"):
        where = Where.parse(read)
        assert str(where) == read and where.sinks is (read != "mean")
        positive, negative = text_sides(model, texts, others, where).readings(where)
        made[read] = mean_difference(model, positive, negative, spec.places, name="v", contrast="c")[spec.places[0]]
    assert made["mean"].provenance.notes["sinks_left_out"]["tokens"] == 8
    assert "sinks_left_out" not in made["mean+sinks"].provenance.notes
    first = Where.parse("first")
    with pytest.raises(BadInput, match="nothing but position 0"):
        mean_difference(
            model, *text_sides(model, texts, others, first).readings(first), spec.places, name="v", contrast="c"
        )
