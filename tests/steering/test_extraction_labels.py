"""Annotated traces: parsed as published, located in the text, and averaged as in arXiv 2506.18167."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from steering.errors import BadInput
from steering.extraction import (
    LABELS,
    LabelledSpan,
    LabelledTrace,
    LabelMeans,
    Part,
    TextSpan,
    label_means,
    label_vectors,
    labelled_trace,
    locate,
    parse_annotated,
)
from steering.extraction.annotations import token_span
from steering.extraction.labels import window
from steering.model.sites import Site
from tests.tiny import tiny

TRACES = ("annotated_traces_r1-distill-qwen-1.5b.json", "annotated_traces_qwen2.5-1.5b-instruct.json")
SITES = [Site(1), Site(2, "resid_pre"), Site(0)]


@cache
def published(folder: Path, name: str) -> list[dict[str, object]]:
    return json.loads((folder / "published" / name).read_text())


def test_parts_are_read_in_every_form_that_annotators_write() -> None:
    text = (
        'preface ["deduction"] Let x = [x] and [deduct]. ["end-section"] loose\n[backtracking] Wait,\nno. [end-section]'
        '["deduction"] no end ["summarizing"] all [y] ["end-section"]["deduction"]  ["end-section"] ["backtracking"] tail'
    )
    assert parse_annotated(text) == (
        Part("deduction", "Let x = [x] and [deduct]."),
        Part("backtracking", "Wait,\nno."),
        Part("deduction", "no end"),
        Part("summarizing", "all [y]"),
        Part("backtracking", "tail"),
    )
    assert parse_annotated("no labels [x] here") == ()


def test_repeated_parts_are_located_one_after_the_other() -> None:
    original = "Wait. So a.\n\nWait. So b. Wait. End"
    parts = [Part("b", "Wait."), Part("d", "So  b."), Part("b", "Wait."), Part("d", "So c."), Part("d", "So a.")]
    spans, lost = locate(parts, original)
    assert [original[s.start : s.end] for s in spans] == ["Wait.", "So b.", "Wait.", "So a."]
    assert [s.start for s in spans] == [0, 19, 25, 6] and lost == (Part("d", "So c."),)
    assert locate([Part("d", "a.* b")], "a.x b")[0] == (), "the text is not a pattern"
    assert locate([Part("d", "a b")], "a\n  b")[0] == (TextSpan(0, 5, "d"),)


def test_characters_are_carried_over_to_the_tokens_that_cover_them() -> None:
    offsets = [(0, 0), (0, 2), (2, 6), (6, 7), (7, 7), (8, 12)]
    assert token_span(offsets, 0, 2) == (1, 2)
    assert token_span(offsets, 3, 7) == (2, 4), "a token that begins before the span belongs to it"
    assert token_span(offsets, 0, 12) == (1, 6)
    assert token_span(offsets, 7, 8) is None


def test_a_text_becomes_a_labelled_trace() -> None:
    text = "w15 w16 w17  w18 w19 w20"
    spans, lost = locate(parse_annotated('["deduction"] w16 w17 ["end-section"] ["backtracking"] w18 w19 w20'), text)
    trace = labelled_trace(tiny("llama"), text, spans)
    assert not lost and trace.token_ids == (15, 16, 17, 18, 19, 20)
    assert trace.spans == (LabelledSpan(1, 3, "deduction"), LabelledSpan(3, 6, "backtracking"))
    with pytest.raises(BadInput, match="at most 128"):
        labelled_trace(tiny("llama"), "w15 " * 129, spans)


@pytest.mark.parametrize(
    ("span", "positions"),
    [
        ((7, 30), range(6, 17)),  # long: the token before, and ten from the start
        ((7, 18), range(6, 17)),  # eleven tokens: the same
        ((7, 17), range(6, 16)),  # ten tokens: the last one is left out
        ((7, 9), range(6, 8)),
        ((7, 8), range(6, 7)),  # one token: only the one before
        ((0, 4), range(0, 3)),
        ((0, 1), range(0, 1)),
    ],
)
def test_the_window_is_that_of_the_paper(span: tuple[int, int], positions: range) -> None:
    assert range(*window(LabelledSpan(*span, "b"))) == positions
    if span[0]:
        authors = list(range(40))[span[0] - 1 : min(span[1] - 1, span[0] + 10)]
        assert list(positions) == authors


def traces() -> list[LabelledTrace]:
    rng = np.random.default_rng(0)

    def ids(n: int) -> tuple[int, ...]:
        return (1, *(int(t) for t in rng.integers(3, 61, n)))

    return [
        LabelledTrace(ids(30), (LabelledSpan(3, 20, "a"), LabelledSpan(20, 24, "b"), LabelledSpan(24, 29, "a"))),
        LabelledTrace(ids(5), ()),
        LabelledTrace(ids(12), (LabelledSpan(2, 3, "b"), LabelledSpan(5, 9, "a"))),
        LabelledTrace(ids(18), (LabelledSpan(4, 17, "c"),)),
    ]


def naive(weigh: str) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, int]]:
    """The authors' arithmetic after layer 1, span by span, without batches."""
    spans: dict[str, list[np.ndarray]] = {}
    wholes, lengths = [], []
    for trace in traces():
        if not trace.spans:
            continue
        with torch.no_grad():
            output = tiny("llama").model(
                input_ids=torch.tensor([trace.token_ids]), output_hidden_states=True, use_cache=False
            )
        h = output.hidden_states[2][0].double().numpy()
        first, last = min(s.start for s in trace.spans), max(s.end for s in trace.spans)
        wholes.append(h[first:last].mean(0))
        lengths.append(last - first)
        for s in trace.spans:
            spans.setdefault(s.label, []).append(h[s.start - 1 : min(s.end - 1, s.start + 10)].mean(0))
    weights = np.array(lengths if weigh == "token" else [1] * len(wholes))
    overall = (np.array(wholes) * weights[:, None]).sum(0) / weights.sum()
    return {b: np.mean(v, axis=0) for b, v in spans.items()}, overall, {b: len(v) for b, v in spans.items()}


@pytest.mark.parametrize("weigh", ["trace", "token"])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_means_and_vectors_equal_the_naive_ones(weigh: str, batch_size: int) -> None:
    model = tiny("llama")
    means, overall, counts = naive(weigh)
    found = label_means(model, traces(), SITES, overall=weigh, batch_size=batch_size)  # type: ignore[arg-type]
    assert found.counts == counts == {"a": 3, "b": 2, "c": 1} and found.traces == 3
    for site in SITES[:2]:  # one place under two names
        assert np.allclose(found.overall[site].numpy(), overall, atol=1e-4)
        for label, mean in means.items():
            assert np.allclose(found.means[label][site].numpy(), mean, atol=1e-4)
    plain = label_vectors(model, found, rescale=False, few=2)
    scaled = label_vectors(model, found, few=2)
    for label, mean in means.items():
        u = mean - overall
        assert np.allclose(plain[label][Site(1)].direction.numpy(), u, atol=1e-4)
        expected = u * np.linalg.norm(overall) / np.linalg.norm(u)
        vector = scaled[label][Site(1)]
        assert np.allclose(vector.direction.numpy(), expected, atol=1e-3)
        notes = vector.provenance.notes
        assert notes["norm_before"] == pytest.approx(np.linalg.norm(u), abs=1e-4)
        assert notes["few"] == (label == "c") and vector.provenance.counts == (counts[label], 3)
        assert vector.provenance.model == model.fingerprint and vector.provenance.data == found.data


def test_the_two_overall_means_differ_where_traces_differ_in_length() -> None:
    by_trace, by_token = naive("trace")[1], naive("token")[1]
    assert np.abs(by_trace - by_token).max() > 0.01, "or the test above could not tell them apart"


def test_unusable_traces_are_refused() -> None:
    with pytest.raises(BadInput, match="not inside a trace of 3"):
        LabelledTrace((1, 5, 6), (LabelledSpan(2, 4, "a"),))
    with pytest.raises(BadInput, match="No trace has a labelled span"):
        label_means(tiny("llama"), [LabelledTrace((1, 5), ())], SITES)
    with pytest.raises(BadInput, match="Did you mean 'token'"):
        label_means(tiny("llama"), traces(), SITES, overall="tokens")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="at least 0 and 1"):
        label_means(tiny("llama"), traces(), SITES, after=0)
    same = {Site(0): torch.ones(16)}
    with pytest.raises(BadInput, match="equals the overall mean"):
        label_vectors(tiny("llama"), LabelMeans({"a": same}, same, {"a": 3}, 1))


@pytest.mark.parametrize("name", TRACES)
def test_the_published_traces_give_the_published_counts(shared_data: Path, name: str) -> None:
    entries = published(shared_data, name)
    assert len(entries) == 100
    for entry in entries:
        counts = dict.fromkeys(LABELS, 0)
        for part in parse_annotated(str(entry["annotated_response"])):
            counts[part.label] += 1
        assert counts == entry["label_counts"]


@pytest.mark.parametrize(("name", "least"), [(TRACES[0], 0.99), (TRACES[1], 0.98)])
def test_the_published_parts_are_located_in_their_text(shared_data: Path, name: str, least: float) -> None:
    found = lost = 0
    for entry in published(shared_data, name):
        original = str(entry["thinking_process"])
        parts = parse_annotated(str(entry["annotated_response"]))
        spans, missing = locate(parts, original)
        texts = [" ".join(p.text.split()) for p in parts if p not in missing]
        assert [" ".join(original[s.start : s.end].split()) for s in spans] == texts
        found, lost = found + len(spans), lost + len(missing)
    assert found / (found + lost) > least


def test_the_published_means_give_vectors_at_the_overall_norm(shared_data: Path) -> None:
    path = shared_data / "published/behaviour_mean_activations_r1-distill-qwen-1.5b.pt"
    stored = torch.load(path, weights_only=True)
    sites = [Site(layer) for layer in range(28)]
    overall = stored.pop("overall")
    means = {label: {site: entry["mean"][site.layer] for site in sites} for label, entry in stored.items()}
    counts = {label: int(entry["count"]) for label, entry in stored.items()}
    every = {site: overall["mean"][site.layer] for site in sites}
    vectors = label_vectors(tiny("llama"), LabelMeans(means, every, counts, int(overall["count"])))
    for label, by_site in vectors.items():
        for site, vector in by_site.items():
            u = stored[label]["mean"][site.layer].double() - overall["mean"][site.layer].double()
            expected = u * (overall["mean"][site.layer].double().norm() / u.norm())
            assert torch.allclose(vector.direction.double(), expected, rtol=1e-4, atol=1e-5)
    flagged = {label for label, by_site in vectors.items() if by_site[Site(17)].provenance.notes["few"]}
    assert flagged == {"summarizing"}
