"""Plans of plain additions on llama.cpp: what it adds is what the engine adds, and everything else is refused by name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from steering.engine.generation import Generation, Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput, NeverFired
from steering.executors import llama_library
from steering.executors.agreement import agreement
from steering.executors.llama_cpp import LlamaCpp
from steering.executors.nnsight_remote import RemoteRow
from steering.model.models import LoadedModel, load_model
from steering.plan.expression import parse_plan
from steering.plan.plan import Plan
from tests.tiny import vector
from tests.written_gguf import source_model, write_gguf

WIDTH, LAYERS = 64, 4
PROMPTS = [tuple(range(2 + k, 9 + 2 * k)) for k in range(5)]
TEXTS = {
    "unsteered": None,
    "all": "add late 60 on all | sinks",
    "prompt": "add late 60 on prompt | sinks; add early -9v on prompt | sinks",
    "generated": "add late 60 on generated",
    "both": "add late -60 on generated; add early 9v on prompt | sinks; add last 20 on all | sinks",
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = source_model("llama", num_hidden_layers=LAYERS, hidden_size=WIDTH, intermediate_size=96)
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", source)


@pytest.fixture(scope="module")
def engine(file: Path) -> LoadedModel:
    return load_model(str(file))


@pytest.fixture(scope="module")
def opened(file: Path) -> Iterator[LlamaCpp]:
    with LlamaCpp(file, threads=1) as model:
        yield model


def plan(text: str | None) -> Plan:
    if text is None:
        return Plan()
    known = {"early": vector(1, layer=1, width=WIDTH), "late": vector(2, layer=2, width=WIDTH)}
    known |= {"last": vector(3, layer=LAYERS - 1, width=WIDTH), "first": vector(4, layer=0, width=WIDTH)}
    return parse_plan(text, known)


def naive_logits(engine: LoadedModel, prompt: tuple[int, ...], added: dict[int, torch.Tensor]) -> np.ndarray:
    """Logits at the last token with vectors added at every position, by plain hooks."""
    handles = [
        engine.layout.layers[layer].register_forward_hook(
            lambda m, a, out, d=d: out + d if isinstance(out, torch.Tensor) else (out[0] + d, *out[1:])
        )
        for layer, d in added.items()
    ]
    with torch.inference_mode():
        found = engine.model(input_ids=torch.tensor([prompt])).logits[0, -1]
    for handle in handles:
        handle.remove()
    return found.numpy()


@pytest.mark.parametrize("layer", range(1, LAYERS))
def test_a_vector_is_added_where_the_engine_adds_it(engine: LoadedModel, opened: LlamaCpp, layer: int) -> None:
    direction = vector(5, layer=layer, width=WIDTH)
    steered = parse_plan("add v 3v on all | sinks", {"v": direction})
    theirs = opened.logits(PROMPTS[1], steered)
    span = float(np.ptp(theirs))
    off = {
        other: float(np.abs(theirs - naive_logits(engine, PROMPTS[1], {other: 3 * direction.direction})).max()) / span
        for other in range(LAYERS)
    }
    bare = float(np.abs(theirs - naive_logits(engine, PROMPTS[1], {})).max()) / span
    assert off[layer] < 5e-3, off  # keys and values in half precision
    assert min([*(gap for other, gap in off.items() if other != layer), bare]) > 4 * off[layer], (off, bare)


def test_the_leading_tokens_that_are_sinks_get_nothing(opened: LlamaCpp) -> None:
    one = (PROMPTS[0][0],)
    steered = plan("add late 40 on all | sinks")
    assert np.array_equal(opened.logits(one, steered, sinks=1), opened.logits(one))
    assert not np.allclose(opened.logits(one, steered), opened.logits(one), atol=1e-3)
    with_one, without = (opened.logits(PROMPTS[0], steered, sinks=n) for n in (1, 0))
    assert not np.allclose(with_one, without, atol=1e-3)


@pytest.mark.parametrize("name", TEXTS)
def test_texts_are_the_engines_but_for_near_ties(engine: LoadedModel, opened: LlamaCpp, name: str) -> None:
    rows, settings = [Row(p, plan(TEXTS[name])) for p in PROMPTS], GenerationSettings(12)
    ours, theirs = generate(engine, rows, settings), opened.generate(rows, settings)
    found = agreement(ours, theirs)
    assert found.shared > 0.7 and not found.widest > 0.2, (name, found)
    assert [row.finish for row in theirs] == [row.finish for row in ours] or found.equal < len(rows)
    same = [(a, b) for a, b in zip(ours, theirs, strict=True) if a.token_ids == b.token_ids]
    assert same and all(a.receipt.planned == b.planned for a, b in same)


def test_plans_of_one_call_come_back_in_order_and_rows_do_not_depend_on_their_company(opened: LlamaCpp) -> None:
    plans = [plan(text) for text in TEXTS.values()]
    rows = [Row(p, each) for p in PROMPTS for each in plans]
    together = opened.generate(rows, GenerationSettings(6))
    assert [row.prompt_ids for row in together] == [row.prompt_ids for row in rows]
    alone = [opened.generate([row], GenerationSettings(6))[0] for row in rows[:: len(plans) + 1]]
    assert [row.token_ids for row in alone] == [row.token_ids for row in together[:: len(plans) + 1]]
    assert len({row.token_ids for row in together[: len(plans)]}) > 2  # the plans do different things
    few = opened.generate(rows, GenerationSettings(6), batch_size=2)
    assert sum(a.token_ids == b.token_ids for a, b in zip(few, together, strict=True)) >= len(rows) - 2


def test_a_prompt_longer_than_one_call_is_read_in_pieces(tmp_path: Path) -> None:
    source = source_model("llama", num_hidden_layers=2, hidden_size=32, max_position_embeddings=4096)
    path = write_gguf(tmp_path / "long.gguf", source)
    ids = tuple(2 + (7 * k) % 200 for k in range(2500))
    with LlamaCpp(path, threads=1) as model:
        theirs = model.logits(ids)
    ours = naive_logits(load_model(str(path)), ids, {})
    assert np.abs(theirs - ours).max() / np.ptp(ours) < 2e-2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("add first 1 on all | sinks", "blocks 1 to 3"),
        ("add late 1 on last_prompt", "which only this program can find"),
        ("add late 1r on generated", "depends on the activation"),
        ("ablate late on generated", "depends on the activation"),
        ("add late 1 on generated when entropy > 1", "has a gate"),
    ],
)
def test_what_llama_cpp_cannot_do_is_refused(opened: LlamaCpp, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        opened.generate([Row(PROMPTS[0], plan(text))], GenerationSettings(4))


def test_rows_and_settings_that_do_not_fit_are_refused(opened: LlamaCpp) -> None:
    few = GenerationSettings(4)
    for rows, settings, said in (
        ([Row(())], few, "empty prompt"),
        ([Row(PROMPTS[0], begun=(3,))], few, "begun"),
        ([Row((3, 10**6))], few, "holds id 1000000"),
        ([Row(PROMPTS[0])], GenerationSettings(500), "exceed the context"),
        ([Row(PROMPTS[0])], GenerationSettings(4, temperature=1.0), "greedily"),
        ([Row(PROMPTS[0], parse_plan("add v 1 on generated", {"v": vector(0, layer=1, width=8)}))], few, "8 numbers"),
    ):
        with pytest.raises(BadInput, match=said):
            opened.generate(rows, settings)
    with pytest.raises(BadInput, match="sinks is -1"):
        opened.generate([Row(PROMPTS[0])], few, sinks=-1)
    with pytest.raises(BadInput, match="threads is 0"):
        LlamaCpp(opened.path, threads=0)


def test_what_would_edit_nothing_or_overflow_is_refused_before_anything_runs(opened: LlamaCpp) -> None:
    one, few = (PROMPTS[0][0],), GenerationSettings(4)
    for row, settings, sinks, said in (
        (Row(PROMPTS[0], plan("add late 1 on prompt | sinks")), few, 99, "prompt tokens, and sinks is 99"),
        (Row(one, plan("add late 1 on prompt | sinks")), few, 1, "nothing would be edited"),
        (Row(one, plan("add late 1 on generated")), GenerationSettings(1), 0, "nothing would be edited"),
        (Row(one, plan("add late 1e30v on generated")), few, 0, "too large to compute with"),
    ):
        with pytest.raises(BadInput, match=said):
            opened.generate([row], settings, sinks=sinks)


def test_a_plan_that_never_fired_is_an_error(opened: LlamaCpp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "ends", lambda token: True)  # every text ends with its first token
    row = Row(PROMPTS[0], plan("add late 1 on generated"))
    with pytest.raises(NeverFired, match="ended before the span began") as caught:
        opened.generate([row, Row(PROMPTS[1])], GenerationSettings(5))
    assert [len(one.token_ids) for one in caught.value.generations] == [1, 1]


def test_files_and_libraries_that_are_none_are_refused(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(BadInput, match="text.gguf is not a GGUF file: it does not begin with the letters GGUF"):
        LlamaCpp(tmp_path / "text.gguf")
    whole = file.read_bytes()
    (tmp_path / "head.gguf").write_bytes(whole[:30])
    with pytest.raises(BadInput, match="head.gguf is corrupt or cut short"):
        LlamaCpp(tmp_path / "head.gguf")
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match="cut.gguf is not read by llama.cpp: it is cut short, or of a kind"):
        LlamaCpp(tmp_path / "cut.gguf")
    with pytest.raises(BadInput, match="is no file"):
        LlamaCpp(tmp_path / "nothing.gguf")
    with pytest.raises(BadInput, match="cannot be loaded as a library"):
        LlamaCpp(file, library=tmp_path / "text.gguf")
    torch_library = next((Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"))
    with pytest.raises(BadInput, match="no llama.cpp library"):
        LlamaCpp(file, library=torch_library)
    monkeypatch.setattr(llama_library, "PACKAGES", ())
    monkeypatch.setattr(llama_library, "find_library", lambda name: None)
    with pytest.raises(BadInput, match="pip install xllamacpp"):
        LlamaCpp(file)
    monkeypatch.undo()
    monkeypatch.setattr(llama_library, "DEFAULTS", ((1, 2, 3, 4),))
    with pytest.raises(BadInput, match="whose parameters are not known"):
        LlamaCpp(file)


def test_a_closed_model_says_so(file: Path) -> None:
    model = LlamaCpp(file, threads=1)
    model.close()
    model.close()
    with pytest.raises(BadInput, match="has been closed"):
        model.generate([Row(PROMPTS[0])], GenerationSettings(2))


def test_texts_are_split_and_put_together_as_by_the_files_tokenizer(engine: LoadedModel, opened: LlamaCpp) -> None:
    text = "hello  wörld 12<|im_end|>x"
    assert opened.encode(text) == tuple(engine.tokenizer(text, add_special_tokens=False)["input_ids"])
    assert opened.decode(opened.encode("hello  wörld 12")) == "hello  wörld 12"
    assert opened.ends(1) and not opened.ends(5)


def row(*tokens: int) -> RemoteRow:
    return RemoteRow((5, 6), tokens, "length", 0)


def test_agreement_names_how_near_the_choice_was(engine: LoadedModel) -> None:
    (one,) = generate(engine, [Row((5, 6))], GenerationSettings(4))
    second = one.top_ids[5 * 2 + 1]
    behind = one.top_logprob[5 * 2] - one.top_logprob[5 * 2 + 1]
    same = agreement([one], [row(*one.token_ids)])
    assert (same.equal, same.shared) == (1, 1.0) and math.isnan(same.widest) and same.sentence.endswith("part.")
    near = agreement([one], [row(*one.token_ids[:2], second, 0)])
    assert (near.equal, near.shared) == (0, 0.5) and near.widest == pytest.approx(behind)
    unlikely = next(t for t in range(200) if t not in one.top_ids[10:15])
    far = agreement([one, one], [row(*one.token_ids), row(*one.token_ids[:2], unlikely, 0)])
    assert (far.equal, far.shared) == (1, 0.75) and math.isinf(far.widest) and "not among" in far.sentence
    short = agreement([one], [row(*one.token_ids[:3])])
    assert (short.equal, short.shared) == (0, 0.75)
    other: Generation = dataclasses.replace(one, prompt_ids=(9,))
    with pytest.raises(BadInput, match="the same rows"):
        agreement([other], [row(1)])


@pytest.mark.language
def test_on_a_language_model_texts_part_only_at_near_ties(smollm2: LoadedModel) -> None:
    from steering.model.named import named_file

    own = vector(1, layer=15, width=576)
    rows = [
        Row(tuple(smollm2.tokenizer(text)["input_ids"]), made)
        for text in ("The capital of France is", "To make bread you need", "Two plus two is")
        for made in (Plan(), parse_plan("add v 30 on generated", {"v": own}))
    ]
    ours = generate(smollm2, rows, GenerationSettings(12))
    with LlamaCpp(named_file("smollm2"), threads=1) as model:
        found = agreement(ours, model.generate(rows, GenerationSettings(12)))
    assert not found.widest > 0.6 and found.shared > 0.5, found
