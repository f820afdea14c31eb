"""Vectors from a person's own texts: what is read is what was asked for, what is held out was not extracted from, and quality is kept."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from transformers import LlamaConfig, LlamaForCausalLM

from experiments.commands import cli
from experiments.commands.quality import quality_tables
from experiments.studies.contrasts import METHODS, ContrastSpec, extract_contrast, measure
from experiments.studies.quality_files import Stored, quality_path, read_quality, write_quality
from experiments.studies.readings import prompt_reading, training_problems
from experiments.studies.sides import Body, Sides, Where, reading, text_sides
from experiments.tasks.own_texts import own_traces, text_lines, text_pairs
from steering.errors import BadInput
from steering.extraction import checkpoint_difference, label_means, label_vectors, labelled_trace, mean_difference
from steering.extraction.samples import gathered
from steering.model.models import LoadedModel, load_model, wrap
from steering.model.prompts import token_texts
from steering.model.sites import Site
from steering.vector.vectors import SteeringVector
from tests.experiments.test_prompting import LLAMA31, QWEN3, R1
from tests.experiments.test_prompting import model as with_tokenizer

Steer = Callable[..., tuple[int, str, str]]
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


@pytest.fixture
def steer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Steer:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "high.txt").write_text("\n".join(HIGH) + "\n\n")
    (tmp_path / "low.txt").write_text("\n".join(LOW))
    pairs = [{"positive": a, "negative": b, "id": k} for k, (a, b) in enumerate(zip(HIGH, LOW, strict=True))]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["steer", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, " ".join(said.err.split())

    return call


TWO = ("--positive", "high.txt", "--negative", "low.txt")


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


def test_too_few_texts_are_extracted_from_whole_and_it_is_said(steer: Steer, tmp_path: Path, base: LoadedModel) -> None:
    (tmp_path / "high.txt").write_text("\n".join(HIGH[:3]))
    (tmp_path / "low.txt").write_text("\n".join(LOW[:3]))
    quality_path(tmp_path / "v.safetensors").write_text("of an earlier vector")
    code, out, error = steer("extract", "v.safetensors", *TWO)
    assert code == 0 and json.loads(out)["quality"] is None and not quality_path(tmp_path / "v.safetensors").exists()
    assert "Not measured: 3 different texts on a side are too few" in error and "all were extracted from" in error
    sides = text_sides(base, HIGH[:3], LOW[:3], Where())
    own = mean_difference(base, *sides.readings(Where()), [SITE], name="x", contrast="y")[SITE]
    assert torch.equal(SteeringVector.load(tmp_path / "v.safetensors").direction, own.direction)


# ---- the verb -----------------------------------------------------------------------------------------------------------------


def test_texts_become_vectors_of_several_layers_and_reports_beside_them(
    steer: Steer, tmp_path: Path, base: LoadedModel
) -> None:
    code, out, error = steer("extract", "v-{layer}.safetensors", "--layers", "0,2", *TWO, "--read", "mean", "--seed", 3)
    written = json.loads(out)
    assert code == 0 and [w["site"] for w in written] == ["blocks.0.hook_resid_post", "blocks.2.hook_resid_post"]
    assert "Vector quality" in error and "held-out AUC" in error
    for facts in written:
        vector, stored = SteeringVector.load(facts["file"]), read_quality(Path(facts["file"]))
        assert stored is not None and stored.vector == vector.digest == facts["digest"] and stored.read == "mean"
        assert vector.name == "high - low" and "high.txt, low.txt" in vector.provenance.contrast
        assert (stored.seed, stored.share, stored.training, stored.held_out) == (3, 0.3, (7, 7), (3, 3))
    sides = text_sides(base, text_lines(tmp_path / "high.txt"), text_lines(tmp_path / "low.txt"), Where("mean"))
    training, _ = sides.split(0.3, 3) or pytest.fail("it can be divided")
    own = mean_difference(base, *training.readings(Where("mean")), [Site(2)], name="x", contrast="y")[Site(2)]
    assert SteeringVector.load("v-2.safetensors").digest == own.digest


def test_the_report_is_no_part_of_the_vector(steer: Steer, tmp_path: Path) -> None:
    assert steer("extract", "a.safetensors", *TWO, "--held-out", "0.3")[0] == 0
    before, stored = (tmp_path / "a.safetensors").read_bytes(), read_quality(Path("a.safetensors"))
    assert stored is not None
    assert Stored.model_validate_json(quality_path(Path("a.safetensors")).read_bytes()) == stored
    write_quality(Path("a.safetensors"), stored.model_copy(update={"seed": 9}))
    assert (tmp_path / "a.safetensors").read_bytes() == before
    # a report beside another vector, and one that is none
    assert steer("extract", "b.safetensors", *TWO, "--method", "logistic")[0] == 0
    quality_path(Path("b.safetensors")).write_bytes(quality_path(Path("a.safetensors")).read_bytes())
    code, out, error = steer("vectors", "quality", "b.safetensors")
    assert code == 2 and f"is the report of vector {stored.vector}" in error
    quality_path(Path("b.safetensors")).write_text("{}")
    code, out, error = steer("vectors", "quality", "b.safetensors")
    assert code == 2 and "holds no report" in error and "Traceback" not in error


def test_pairs_are_read_with_their_prompts_and_methods_by_name(steer: Steer, tmp_path: Path, base: LoadedModel) -> None:
    code, out, _ = steer("extract", "p.safetensors", "--pairs", "pairs.jsonl")
    assert code == 0 and SteeringVector.load("p.safetensors").provenance.method == "paired difference"
    assert read_quality(Path("p.safetensors")) is not None
    asked = [f"rules + {k} ; goal 31 start 42 91 ?" for k in range(2, 12)]
    records = [{"prompt": text, "positive": " think first", "negative": " be quick"} for text in asked]
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, records)))
    for method in ("paired", "principal", "logistic"):
        code, out, error = steer(
            "extract", f"{method}.safetensors", "--pairs", "asked.jsonl", "--method", method, "--held-out", 0
        )
        assert code == 0 and "nothing is held out" in error, error
    whole = text_sides(base, HIGH, LOW, Where(), paired=True)
    own = mean_difference(base, *whole.readings(Where()), [SITE], name="x", contrast="y")[SITE]
    assert torch.allclose(SteeringVector.load("paired.safetensors").direction, own.direction, atol=1e-4)
    # what is shared before the text is not read by the text's mean
    code, *_ = steer("extract", "mean.safetensors", "--pairs", "asked.jsonl", "--read", "mean", "--held-out", 0)
    (body,) = text_sides(base, [" think first"], [" be quick"], Where("mean"), prompts=asked[:1]).positive
    assert code == 0 and [t.strip() for t in token_texts(base, body.ids[slice(*body.spans[0])])] == ["think", "first"]


def test_prompt_forms_and_two_models_are_read_as_before(steer: Steer, base: LoadedModel) -> None:
    code, *_ = steer("extract", "mode.safetensors", "--contrast", "mode", "--n", 8, "--held-out", 0)
    problems = training_problems(8)
    high, low = (prompt_reading(base, problems, form) for form in ("think", "quick"))
    own = mean_difference(base, high, low, [SITE], name="x", contrast="y")[SITE]
    assert code == 0 and SteeringVector.load("mode.safetensors").digest == own.digest
    code, out, error = steer("extract", "gap.safetensors", "--n", 8, "--held-out", 0)
    other = checkpoint_difference(base, load_model("builtin:thinking"), prompt_reading(base, problems, "bare"), [SITE])[
        SITE
    ]
    assert code == 0 and SteeringVector.load("gap.safetensors").digest == other.digest
    code, out, error = steer("extract", "gap.safetensors", "--n", 8)
    assert code == 0 and json.loads(out)["quality"] == "gap.quality.json" and "held-out AUC" in error


TEXT = "Let me see. 3 + 4 = 7. Wait, that is wrong. So the answer is 8."


def span(part: str, label: str) -> dict[str, Any]:
    return {"start": TEXT.index(part), "end": TEXT.index(part) + len(part), "label": label}


def test_labelled_spans_give_a_vector_per_label(steer: Steer, tmp_path: Path, base: LoadedModel) -> None:
    parts = (("3 + 4 = 7.", "computing"), ("Wait, that is wrong.", "doubt"), ("So the answer is 8.", "concluding"))
    records: list[dict[str, Any]] = []
    for k in range(8):
        text, spans, at = f"{k} + {k}. ", [], 0
        for part, label in parts if k % 2 else parts[::-1]:
            at = len(text)
            text += part + " "
            spans.append({"start": at, "end": at + len(part), "label": label})
        records.append({"text": text, "spans": spans})
    (tmp_path / "spans.jsonl").write_text("\n".join(map(json.dumps, records)))
    code, out, error = steer("extract", "{label}-{layer}.safetensors", "--layers", "1,2", "--spans", "spans.jsonl")
    written = json.loads(out)
    assert code == 0 and len(written) == 6 and {w["label"] for w in written} == {"computing", "doubt", "concluding"}, (
        error
    )
    assert "does not know" in error, "English is unknown to the built-in tokenizer"
    traces = [labelled_trace(base, t.text, t.text_spans) for t in own_traces(tmp_path / "spans.jsonl")]
    code, *_ = steer("extract", "d.safetensors", "--spans", "spans.jsonl", "--label", "doubt", "--held-out", 0)
    own = label_vectors(base, label_means(base, traces, [SITE]))["doubt"][SITE]
    assert code == 0 and SteeringVector.load("d.safetensors").digest == own.digest
    # the same spans by another method, in tokens, and as the annotator writes them
    ids = [{"token_ids": t.token_ids, "spans": [vars(s) for s in t.spans]} for t in traces]
    (tmp_path / "ids.jsonl").write_text("\n".join(map(json.dumps, ids)))
    code, *_ = steer("extract", "i.safetensors", "--spans", "ids.jsonl", "--label", "doubt", "--held-out", 0)
    assert code == 0 and SteeringVector.load("i.safetensors").digest == own.digest
    written_by = [
        {"thinking_process": r["text"], "annotated_response": "".join(
            f'["{s["label"]}"]{r["text"][s["start"]:s["end"]]}["end-section"]' for s in r["spans"])}
        for r in records
    ]  # fmt: skip
    (tmp_path / "published.json").write_text(json.dumps(written_by))
    code, *_ = steer("extract", "a.safetensors", "--spans", "published.json", "--label", "doubt", "--held-out", 0)
    assert code == 0 and SteeringVector.load("a.safetensors").digest == own.digest
    for read in ("mean", "first", "last"):
        code, out, error = steer(
            "extract",
            "l.safetensors",
            "--spans",
            "ids.jsonl",
            "--label",
            "doubt",
            "--method",
            "difference",
            "--read",
            read,
        )
        assert code == 0 and read_quality(Path("l.safetensors")) is not None, error


def test_stored_reports_are_printed_and_vectors_measured_on_other_texts(
    steer: Steer, tmp_path: Path, base: LoadedModel
) -> None:
    steer("extract", "v.safetensors", *TWO)
    steer("extract", "w.safetensors", *TWO, "--held-out", 0)
    code, out, error = steer("vectors", "quality", "v.safetensors", "w.safetensors", "--json")
    one, two = json.loads(out)
    stored = read_quality(Path("v.safetensors"))
    assert code == 0 and stored is not None and two["report"] is None and "no report beside" in two["said"]
    assert one["report"] == json.loads(json.dumps(stored.report.to_dict()))
    assert "extracted from 7 and 7 sequences, separability on 3 and 3 held out" in one["said"]
    code, out, error = steer("vectors", "quality", "v.safetensors")
    assert code == 0 and "high - low" in out and "blocks.1.hook_resid_post" in out and "held-out AUC" in out
    code, out, error = steer("vectors", "quality", "w.safetensors")
    assert (code, out) == (1, "") and "no report beside" in error
    (tmp_path / "other-high.txt").write_text("\n".join(t.replace("31", "77") for t in HIGH))
    (tmp_path / "other-low.txt").write_text("\n".join(t.replace("31", "77") for t in LOW))
    own = ("--model", "builtin:base", "--positive", "other-high.txt", "--negative", "other-low.txt")
    code, out, error = steer("vectors", "quality", "v.safetensors", *own, "--json")
    (found,) = json.loads(out)
    sides = text_sides(base, text_lines(tmp_path / "other-high.txt"), text_lines(tmp_path / "other-low.txt"), Where())
    spec = ContrastSpec(sites=(str(SITE),), held_out=0.5)
    report = measure(base, SteeringVector.load("v.safetensors"), sides, spec)
    assert code == 0 and found["said"] == "" and found["report"] == json.loads(json.dumps(report.to_dict()))
    code, out, error = steer("vectors", "quality", "v.safetensors", "w.safetensors", "--model", "builtin:base", *TWO)
    assert (
        code == 0 and "extracted from 14 of the 20 different texts" in error and "It is not known which texts" in error
    )


def test_reports_fit_the_terminal(steer: Steer) -> None:
    steer("extract", "v.safetensors", *TWO)
    stored = read_quality(Path("v.safetensors"))
    assert stored is not None
    for width in (60, 80, 120, 180, 250):
        console = Console(width=width, record=True, file=io.StringIO())
        for table in quality_tables([stored.report] * 5, width):
            console.print(table)
        text = console.export_text()
        assert "…" not in text and text.count("high - low") == 5
        assert text.count("blocks.1.hook_resid_post") == 5, "whole names, not cut to the column"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--positive", "high.txt"), "Give both --positive and --negative"),
        ((*TWO, "--pairs", "pairs.jsonl"), "one contrast at a time"),
        (("--positive", "gone.txt", "--negative", "low.txt"), "There is no file gone.txt"),
        (("--positive", "empty.txt", "--negative", "low.txt"), "empty.txt holds no text"),
        (("--positive", "latin.txt", "--negative", "low.txt"), "latin.txt, line 1 is not UTF-8"),
        (("--positive", "short.txt", "--negative", "low.txt", "--method", "paired"), "there are 2 and 10"),
        (("--pairs", "high.txt"), "records are read from .jsonl"),
        (("--pairs", "bad.jsonl"), "bad.jsonl, row 0: negative is needed"),
        (("--pairs", "half.jsonl"), "half.jsonl: 1 of 2 pairs have a prompt"),
        ((*TWO, "--contrast", "mode"), "--contrast mode reads a task's questions, not files"),
        (("--contrast", "texts"), "--contrast texts needs --positive"),
        (("--contrast", "text"), "Did you mean 'texts'"),
        ((*TWO, "--forms", "think"), "--forms think is for a task's questions"),
        ((*TWO, "--prompts", "high.txt"), "--prompts goes with --contrast checkpoint"),
        ((*TWO, "--texts", "chats"), "Did you mean 'chat'"),
        ((*TWO, "--texts", "chat"), "has no chat template"),
        (("--contrast", "mode", "--texts", "chat"), "--texts chat is for"),
        ((*TWO, "--read", "lats"), "Did you mean 'last'"),
        ((*TWO, "--read", "index:40"), "Positive text 1 has"),
        ((*TWO, "--read", "window"), "is the window of a labelled span"),
        ((*TWO, "--method", "optimised"), "needs continuations to make likelier"),
        ((*TWO, "--method", "principle"), "Did you mean 'principal'"),
        ((*TWO, "--held-out", "1"), "held_out"),
        ((*TWO, "--site", "blocks.9.hook_resid_post"), "4 layers, 0 to 3"),
        ((*TWO, "--label", "x"), "--label names labels of --spans"),
        (("--spans", "spans.jsonl"), "put {label} into the name"),
        (("--spans", "spans.jsonl", "--label", "dout"), "Did you mean 'doubt'"),
        (
            ("--spans", "outside.jsonl"),
            "outside.jsonl, row 0: span 'a' (2, 90) is empty or not inside its 5 characters",
        ),
        (("--spans", "spans.jsonl", "--read", "mean"), "reads its own window"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_does_not_fit_is_refused_before_the_model_runs(
    words: tuple[str, ...], said: str, steer: Steer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "latin.txt").write_bytes("naïve\n".encode("latin-1"))
    (tmp_path / "short.txt").write_text("\n".join(HIGH[:2]))
    (tmp_path / "bad.jsonl").write_text('{"positive": "a"}\n')
    (tmp_path / "half.jsonl").write_text(
        '{"positive": "a", "negative": "b"}\n{"positive": "a", "negative": "b", "prompt": "c"}\n'
    )
    (tmp_path / "spans.jsonl").write_text(
        json.dumps({"text": TEXT, "spans": [span("Wait", "doubt"), span("So", "end")]})
    )
    (tmp_path / "outside.jsonl").write_text('{"text": "short", "spans": [{"start": 2, "end": 90, "label": "a"}]}')
    monkeypatch.setattr("steering.extraction.samples.capture", lambda *a, **k: pytest.fail("the model ran"))
    monkeypatch.setattr("steering.model.capture.capture", lambda *a, **k: pytest.fail("the model ran"))
    code, out, error = steer("extract", "v.safetensors", *words)
    assert (code, out) == (2, "") and said in error and "Traceback" not in error, error
    assert not list(tmp_path.glob("v*"))


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
