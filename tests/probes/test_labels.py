"""Behaviour labels: the record, sentences, the lexicon, and the trained labeller against the published annotations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from probes.annotated import AnnotatedTrace, annotated_trace, read_annotated
from probes.labeller_scores import LabellerComparison, compare_labellers
from probes.labels import BehaviourLabel, from_annotation, in_tokens, label_at
from probes.lexicon import lexicon_labels
from probes.sentence_classifier import SentenceClassifier, cross_fitted, fit_sentence_classifier
from probes.sentences import sentences
from steering.errors import BadInput
from steering.extraction.annotations import LABELS, TextSpan

FILES = ("annotated_traces_r1-distill-qwen-1.5b.json", "annotated_traces_qwen2.5-1.5b-instruct.json")


def test_sentences_cover_the_text_and_keep_numbers_lists_and_letters_whole() -> None:
    text = "1. **First**: pi is 3.14.\nSo x = 2. E. coli? \\[\n\\frac{1}{2}\n\\]\nDone!  (Yes.) End"
    found = sentences(text)
    assert [s.text for s in found] == [
        "1. **First**: pi is 3.14.", "So x = 2.", "E. coli? \\[", "\\frac{1}{2}\n\\]", "Done!", "(Yes.)", "End",
    ]  # fmt: skip
    assert all(text[s.start : s.end] == s.text for s in found)
    covered = {i for s in found for i in range(s.start, s.end)}
    assert all(i in covered or text[i].isspace() for i in range(len(text)))
    assert sentences("  \n ") == () and [s.text for s in sentences("...\nAnd so")] == ["...\nAnd so"]


def test_labels_carry_detector_and_confidence_and_become_tokens() -> None:
    label = BehaviourLabel(4, 9, "deduction", "lexicon", 0.3)
    offsets = [(0, 0), (0, 3), (3, 6), (6, 10)]
    (token,) = in_tokens([label], offsets)
    assert (token.start, token.end, token.unit, token.detector) == (2, 4, "tokens", "lexicon")
    assert token.record() == {"label": "deduction", "start": 2, "end": 4, "detector": "lexicon", "confidence": 0.3}
    assert in_tokens([BehaviourLabel(20, 22, "x", "d", 1.0)], offsets) == ()
    for wrong in (
        lambda: BehaviourLabel(4, 4, "a", "d", 0.5),
        lambda: BehaviourLabel(0, 1, "a", "d", 0.0),
        lambda: BehaviourLabel(0, 1, "a", "", 0.5),
        lambda: in_tokens([token], offsets),
        label.record,
    ):
        with pytest.raises(BadInput):
            wrong()
    spans = from_annotation([TextSpan(5, 9, "b"), TextSpan(0, 5, "a")])
    assert [s.label for s in spans] == ["a", "b"] and all(s.confidence < 1 for s in spans)
    assert label_at(spans, 3, 9) == "b" and label_at(spans, 0, 6) == "a" and label_at(spans, 20, 30) is None


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Okay, so I have this problem about dice.", "initializing"),
        ("The sum is seven, which gives the total.", "deduction"),
        ("I remember that light travels fast.", "adding-knowledge"),
        ("The total is odd. For example, take three of them.", "example-testing"),
        ("It is a sum. I'm not sure that this holds.", "uncertainty-estimation"),
        ("It is a sum. Wait, no, that can't be.", "backtracking"),
    ],
)
def test_the_lexicon_labels_plain_cases_and_never_with_certainty(text: str, label: str) -> None:
    found = lexicon_labels(text)
    assert found[-1].label == label
    assert all(f.detector == "lexicon" and f.confidence < 1 for f in found)
    assert len(found) == len(sentences(text))


def _toy(number: int) -> AnnotatedTrace:
    """Sentences whose label is their colour word, except the third, which only its neighbour tells."""
    rng = np.random.default_rng(number)
    colours = {"deduction": "red", "backtracking": "blue"}
    text, annotated = "", ""
    for _ in range(6):
        label = str(rng.choice(list(colours)))
        words = f"The {colours[label]} thing number {rng.integers(90)} comes here."
        text += words + " "
        annotated += f'["{label}"] {words} ["end-section"] '
    return annotated_trace(number, text, annotated)


def test_the_trained_labeller_learns_and_survives_a_round_trip_without_pickle(tmp_path: Path) -> None:
    traces = [_toy(i) for i in range(30)]
    classifier = fit_sentence_classifier(traces[:20])
    assert set(classifier.labels) == {"deduction", "backtracking"}
    for trace in traces[20:]:
        assert tuple(f.label for f in classifier.label(trace.text)) == trace.reference
    path = classifier.save(tmp_path / "labeller.safetensors")
    again = SentenceClassifier.load(path)
    text = traces[25].text
    assert again.label(text) == classifier.label(text) and again.digest == classifier.digest
    assert again.detector.startswith("sentence classifier ") and b"sklearn" not in path.read_bytes()
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BadInput, match="corrupt or cut short"):
        SentenceClassifier.load(path)
    assert classifier.label("") == ()
    with pytest.raises(BadInput, match="two or more are needed"):
        fit_sentence_classifier(traces, labels=("deduction",))
    with pytest.raises(BadInput, match="no word"):
        fit_sentence_classifier([annotated_trace(0, "Ab cd. Ef gh.", '["deduction"] Ab cd. ["backtracking"] Ef gh.')])


def test_no_trace_is_labelled_by_a_classifier_that_has_seen_it() -> None:
    """A label per trace, drawn at random, and a word that only this trace has: what was seen is recalled, what was not is guessed."""
    rng = np.random.default_rng(0)
    traces = []
    for number in range(40):
        label = rng.permutation(["deduction", "backtracking"])[0]
        parts = [f"Word{number} word{number} word{number} {k}." for k in range(5)]
        annotated = " ".join(f'["{label}"] {part} ["end-section"]' for part in parts)
        traces.append(annotated_trace(number, " ".join(parts), annotated))

    def share(said: list[tuple[BehaviourLabel, ...]]) -> float:
        pairs = zip(traces, said, strict=True)
        return float(np.mean([f.label == r for t, labels in pairs for f, r in zip(labels, t.reference, strict=True)]))

    seen = fit_sentence_classifier(traces)
    assert share([seen.label(t.text) for t in traces]) > 0.95
    assert 0.2 < share(cross_fitted(traces, 4)) < 0.8


def test_f1_of_a_hand_computed_case() -> None:
    trace = annotated_trace(
        0, "One one. Two two. Three three. Four four.",
        '["a"] One one. ["end-section"] ["a"] Two two. ["end-section"] ["b"] Three three. ["end-section"]',
    )  # fmt: skip
    assert trace.reference == ("a", "a", "b", None)

    def said(*labels: str) -> tuple[BehaviourLabel, ...]:
        return tuple(BehaviourLabel(s.start, s.end, k, "t", 0.5) for s, k in zip(trace.sentences, labels, strict=True))

    found = compare_labellers(
        [trace, trace], {"x": [said("a", "b", "b", "b")] * 2, "y": [said("a", "a", "b", "a")] * 2}
    )
    x, y = found.scores
    # x: label a has TP 1, FN 1 -> F1 2/3; label b has TP 1, FP 1 -> F1 2/3. The unlabelled sentence counts for nobody.
    assert x.f1["a"].value == pytest.approx(2 / 3) and x.f1["b"].value == pytest.approx(2 / 3)
    assert y.macro_f1.value == 1.0 and found.differences["y"].value == pytest.approx(1 / 3)
    with pytest.raises(BadInput, match="1 of 2"):
        compare_labellers([trace, trace], {"x": [said("a", "b", "b", "b")]})


def test_annotated_files_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "traces.json"
    for content, told in (("{", "not JSON"), ("{}", "list of traces"), ("[{}]", "entry 0"), ("[]", "no trace holds")):
        path.write_text(content)
        with pytest.raises(BadInput, match=told):
            read_annotated(path)
    with pytest.raises(BadInput, match="No annotated traces"):
        read_annotated(tmp_path / "none.json")


@pytest.fixture(scope="module")
def compared(shared_data: Path) -> dict[str, LabellerComparison]:
    found = {}
    for name in FILES:
        path = shared_data / "published" / name
        if not path.is_file():
            pytest.skip(f"{name} is not among the published files")
        traces = read_annotated(path)
        labelled = {"lexicon": [lexicon_labels(t.text) for t in traces], "trained": cross_fitted(traces)}
        found[name] = compare_labellers(traces, labelled)
    return found


def test_the_lexicons_confidence_is_how_often_annotations_agree(shared_data: Path) -> None:
    paths = [shared_data / "published" / name for name in FILES]
    if not all(path.is_file() for path in paths):
        pytest.skip("the annotated traces are not among the published files")
    hits: dict[tuple[str, float], list[bool]] = {}
    for path in paths:
        for trace in read_annotated(path):
            for found, reference in zip(lexicon_labels(trace.text), trace.reference, strict=True):
                if reference is not None:
                    hits.setdefault((found.label, found.confidence), []).append(found.label == reference)
    often = {key: agreed for key, agreed in hits.items() if len(agreed) >= 50}
    assert len(often) >= 7
    for (_, confidence), agreed in often.items():
        assert np.mean(agreed) == pytest.approx(confidence, abs=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_the_trained_labeller_beats_the_lexicon_on_traces_it_has_not_seen(
    name: str, compared: dict[str, LabellerComparison]
) -> None:
    found = compared[name]
    lexicon, trained = found.scores
    assert set(found.counts) <= set(LABELS) and found.traces > 85
    assert found.differences["trained"].low > 0.03
    assert trained.macro_f1.low > 0.45 and lexicon.macro_f1.value > 0.3, "the lexicon is no straw man"
    assert trained.f1["initializing"].value > 0.75
