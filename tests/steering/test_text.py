"""Spans by text find every occurrence however tokens cut it: joined with what stands before or after, in parts, in other cases."""

from __future__ import annotations

import random

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from steering.compile.coverage import Coverage, character_places, continued
from steering.compile.explanation import explain
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput, NeverFired
from steering.model.models import LoadedModel, wrap
from steering.plan.plan import Plan
from steering.plan.span import Span
from tests.naive import naive_logits, spans_position
from tests.tiny import plan, tiny

MERGES = [
    ("Ċ", "Ċ"), (".", "ĊĊ"), ("w", "a"), ("i", "t"), ("wa", "it"), ("Ġ", "wait"), ("W", "a"), ("Wa", "it"), ("s", "o"), ("Ġ", "so"),
    ("wait", "ing"), ("i", "n"), ("in", "g"), (":", "ĊĊ"), ("<", "t"), ("<t", ">"), ("<", "/t"), ("/", "t"), ("</t", ">"), (".", "</t>"),
]  # fmt: skip
"""Of the kind of Qwen and Llama 3: white space joins what stands before it."""


def byte_level() -> PreTrainedTokenizerFast:
    parts = ["<pad>", "<bos>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = [pair for pair in MERGES if pair != ("wait", "ing")] + [("wait", "ing")]
    order = [("in", "g"), ("i", "n")]
    merges = [("i", "n"), ("in", "g")] + [pair for pair in merges if pair not in order]
    merges = [("/", "t")] + [pair for pair in merges if pair != ("/", "t")]
    words = dict.fromkeys([*parts, *(a + b for a, b in merges)])
    core = Tokenizer(models.BPE({word: n for n, word in enumerate(words)}, merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")


@pytest.fixture(scope="module")
def joining() -> LoadedModel:
    """A tiny model whose tokenizer joins `.` and blank lines, words and the blank before them."""
    torch.manual_seed(0)
    known = byte_level()
    config = LlamaConfig(
        vocab_size=len(known), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, intermediate_size=24,
        max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8.0)
    return wrap(model.float(), known, id="tiny-joining")


def ids_of(model: LoadedModel, text: str) -> tuple[int, ...]:
    return tuple(model.tokenizer(text, add_special_tokens=False)["input_ids"])


def covered(model: LoadedModel, span: str, text: str, prompt: int = 0) -> list[str]:
    """Texts of the tokens that a span covers, of which the first `prompt` are the prompt (all by default)."""
    ids = ids_of(model, text)
    split = prompt or len(ids)
    found = continued(model, Span.parse(span), ids[:split], ids[split:])
    whole = [p for p in range(len(ids)) if spans_position(Span.parse(span), p, list(ids), split, model)]
    if Span.parse(span).kind not in ("text", "regex"):
        assert found == whole, "as the oracle reads it off the finished text"
    return [model.tokenizer.decode([ids[p]]) for p in found]


PARAGRAPHS = "one.\n\ntwo:\n\nthree\n\nfour \n\n five"


def test_the_tokenizer_joins_as_real_ones_do(joining: LoadedModel) -> None:
    pieces = [joining.tokenizer.decode([i]) for i in ids_of(joining, PARAGRAPHS)]
    assert [p for p in pieces if "\n" in p] == [".\n\n", ":\n\n", "\n\n", "\n\n"]


def test_every_paragraph_break_is_found_in_prompt_and_text(joining: LoadedModel) -> None:
    breaks = [".\n\n", ":\n\n", "\n\n", "\n\n"]
    assert covered(joining, 'at:"\\n\\n"', PARAGRAPHS) == breaks
    assert covered(joining, 'at:"\\n\\n"', PARAGRAPHS, prompt=3) == breaks
    assert covered(joining, 'text:"\\n\\n"', PARAGRAPHS) == breaks
    assert covered(joining, 'regex:"\\\\n+"', PARAGRAPHS) == breaks
    assert covered(joining, 'after:"\\n\\n":1', PARAGRAPHS) == ["t", "t", "f", " "]


def test_text_that_is_cut_is_complete_at_its_last_token(joining: LoadedModel) -> None:
    assert covered(joining, 'at:"two"', "two two") == ["o", "o"]
    assert covered(joining, 'text:"two"', "a two") == ["t", "w", "o"]
    assert covered(joining, 'at:"e.\\n"', PARAGRAPHS) == [".\n\n"]
    assert covered(joining, 'at:"\\n\\n\\n"', "a\n\n\n\n") == ["\n\n"]


def test_case_blanks_and_words_are_chosen(joining: LoadedModel) -> None:
    text = "Wait so wait, await waiting"
    assert covered(joining, 'at:"wait"', text) == [" wait", "wait", " wait"]
    assert covered(joining, 'at:"wait"i', text) == ["Wait", " wait", "wait", " wait"]
    assert covered(joining, 'at:" wait"', text) == [" wait", " wait"]
    assert covered(joining, 'at:"wait"iw', text) == ["Wait", " wait", " wait"], (
        "a row does not know what follows its newest token"
    )
    assert covered(joining, 'text:"wait"iw', text) == ["Wait", " wait"], "a prompt is known whole"
    assert covered(joining, 'at:"so","Wait"', text) == ["Wait", " so"]
    assert covered(joining, 'at:"so"w,"WAIT"i', text) == ["Wait", " so", " wait", "wait", " wait"]


def test_markers_of_thinking_are_found_when_they_are_joined(joining: LoadedModel) -> None:
    text = "a<t>so.</t>b"
    assert [joining.tokenizer.decode([i]) for i in ids_of(joining, text)] == ["a", "<t>", "so", ".</t>", "b"]
    assert covered(joining, 'inside_thinking:"<t>","</t>"', text) == ["so"]
    assert covered(joining, 'outside_thinking:"<t>","</t>"', text) == ["a", "<t>", ".</t>", "b"]
    both = Coverage(joining, Span.parse('inside_thinking:"(","|"'), ids_of(joining, "a(b|c(d"), 1).known
    assert both[:-1].nonzero()[0].tolist() == [2, 6]


def test_characters_of_several_tokens_have_one_place(joining: LoadedModel) -> None:
    text, places = character_places(joining, ids_of(joining, "aé\n\nß wait"))
    assert text == "aé\n\nß wait"
    assert [text[a:b] for a, b in places] == ["a", "é", "é", "\n\n", "ß", "ß", " wait"]
    assert len(covered(joining, 'at:"é"', "aéé")) == 2
    assert len(covered(joining, 'text:"é"', "aéé")) == 4


@pytest.mark.parametrize(
    "span", ['at:"wait"i', 'at:"\\n\\n"', 'after:"wait"iw,"\\n\\n":2', 'at:"o.\\n" | at:" so"', 'at:"é"']
)
def test_coverage_followed_token_by_token_is_what_the_finished_text_shows(joining: LoadedModel, span: str) -> None:
    rng = random.Random(0)
    wanted = ids_of(joining, ".\n\n wait Wait so é :\n\n ( waiting")
    for _ in range(60):
        ids = [rng.choice(wanted) for _ in range(14)]
        found = continued(joining, Span.parse(span), ids[:6], ids[6:])
        assert found == [p for p in range(14) if spans_position(Span.parse(span), p, ids, 6, joining)], ids


def test_generation_is_steered_where_a_joined_token_completes_the_text(joining: LoadedModel) -> None:
    """Greedy among a few tokens, against the oracle with the same bias."""
    allowed = ids_of(joining, ".\n\n wait so:\n\n")
    bias = torch.zeros(len(joining.tokenizer))
    bias[list(allowed)] = 200.0
    settings = GenerationSettings(10, logit_bias=tuple((i, 200.0) for i in allowed))
    made = [plan("add", span, 9.0, "raw", layer=1) for span in ('at:"\\n\\n" | at:"wait"i', 'after:".\\n":2 | at:"so"')]
    texts = ["a.\n\nb", "wait wait", "so:\n\n", ".\n\n.\n\n", "xy so", "so.\n\n wait"]
    rows = [Row(ids_of(joining, text), one) for text in texts for one in made]
    written: set[int] = set()
    for row, found in zip(rows, generate(joining, rows, settings), strict=True):
        ids = list(row.prompt_ids)
        for _ in range(10):
            ids.append(int((naive_logits(joining, ids, row.plan, len(row.prompt_ids))[-1] + bias).argmax()))
        assert list(found.token_ids) == ids[len(row.prompt_ids) :]
        span = row.plan.interventions[0].span
        places = [p for p in range(len(ids) - 1) if spans_position(span, p, ids, len(row.prompt_ids), joining)]
        assert list(found.receipt.positions) == places
        written |= {ids[p] for p in places if p >= len(row.prompt_ids)}
    assert written, "some edits must be made at tokens that were written, or this comparison proves nothing"


def test_a_text_that_does_not_come_up_is_the_reason_given(joining: LoadedModel) -> None:
    rows = [Row(ids_of(joining, "abc"), plan("add", 'at:"zzz"', 1.0))] * 2
    with pytest.raises(NeverFired, match="did not come up in the 1[0-9] tokens that were read in the 2 rows") as caught:
        generate(
            joining, rows, GenerationSettings(4, logit_bias=((joining.tokenizer.convert_tokens_to_ids("z"), -500.0),))
        )
    assert "ended before" not in str(caught.value)


def test_explanations_show_joined_tokens(joining: LoadedModel) -> None:
    found = explain(joining, plan("add", 'at:"\\n\\n"', 1.0, layer=1), PARAGRAPHS)
    assert [
        found.tokens[p].text for p in found.covered if "\n" in joining.tokenizer.decode([found.tokens[p].token_id])
    ] != []
    assert len(found.covered) == 4


@pytest.mark.parametrize(
    "text", ['at:"wait"i', 'at:"a"w,"b",5+6', 'after:"wait"iw:3', 'text:"Wait"i', '(at:"x"wi | prompt) - specials']
)
def test_flags_read_back_and_are_part_of_the_plans_identity(text: str) -> None:
    span = Span.parse(text)
    assert Span.parse(str(span)) == span
    made = plan("add", text, 1.0)
    vectors = {i.vector.digest: i.vector for i in made.interventions}
    assert Plan.from_yaml(made.to_yaml(), vectors) == made
    bare = plan("add", str(span).replace('"i', '"').replace('"w', '"'), 1.0)
    assert bare.digest != made.digest


def test_texts_without_flags_are_the_plans_that_they_were() -> None:
    assert Span.parse('at:"wait",5').flags == ()
    assert Span("at", tokens=("wait",), flags=("wi",)) == Span.parse('at:"wait"iw')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('at:"wait"x', "write i to ignore case, w for a whole word"),
        ('regex:"wait"i', r"write \(\?i\)"),
        ('at:"wait"i5', "with commas between them"),
    ],
)
def test_letters_that_mean_nothing_are_refused(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Span.parse(text)


def test_text_that_a_tokenizer_cannot_write_in_any_case_is_refused() -> None:
    model = tiny("llama")
    assert Coverage(model, Span.parse('at:"WAIT"i'), (1, 7), 1).known.tolist() == [False, True, False]
    for span in ('at:"WAIT"', 'at:"nowhere"i'):
        with pytest.raises(BadInput, match="not text that the tokenizer"):
            Coverage(model, Span.parse(span), (1, 7), 1)


def test_a_blank_that_a_token_holds_is_its_own_where_decoding_it_alone_drops_it() -> None:
    """The kind of Llama 2 and Gemma: `▁wait` decodes to `wait` alone, and to ` wait` after another token."""
    words = ["<pad>", "<bos>", "<eos>", "▁wait", "wait", "▁so", "▁a", "."]
    core = Tokenizer(models.BPE({word: n for n, word in enumerate(words)}, [], unk_token="<pad>"))
    core.decoder = decoders.Metaspace()
    known = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")
    model = wrap(tiny("llama").model, known, id="tiny-metaspace", probe=False)
    ids = (6, 3, 4, 7, 5, 3)
    assert known.decode(list(ids)) == "a waitwait. so wait"
    text, places = character_places(model, ids)
    assert [text[a:b] for a, b in places] == ["a", " wait", "wait", ".", " so", " wait"]
    assert continued(model, Span.parse("at:3"), ids, ()) == [1, 5]
    facts = Coverage(model, Span.parse('regex:" (wait|so)"'), ids, 1).known
    assert facts[:-1].nonzero()[0].tolist() == [1, 4, 5]
