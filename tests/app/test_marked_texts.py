"""Vectors from marked parts of texts: marks are read, written and read again, and the job makes what the command makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.jobs.admission import admitted_command
from app.marked_texts import labels_in, marked, records, text_of
from app.vector_examples import MARKED
from app.vector_maker import Wish, arguments, prepare, wish_of
from steering.errors import BadInput
from steering.vector.vectors import SteeringVector
from tests.experiments.command_line import command

TEXT = "try 5 ; [[testing: goal 3 no]] back ; [[proposing: try 7]]\n\nthen [[testing: goal 3 yes]] so"


def test_marks_are_spans_of_the_text_without_them() -> None:
    found = marked(TEXT)
    assert [plain for plain, _ in found] == ["try 5 ; goal 3 no back ; try 7", "then goal 3 yes so"]
    words = [[(plain[a:b], label) for a, b, label in spans] for plain, spans in found]
    assert words == [[("goal 3 no", "testing"), ("try 7", "proposing")], [("goal 3 yes", "testing")]]
    assert labels_in(TEXT) == ["testing", "proposing"]
    assert text_of(records(TEXT)) == TEXT


@pytest.mark.parametrize("text", ["a [[b: c", "a b]] c", "[[: c]]", "[[b: ]]", "[[b c]]"])
def test_a_mark_that_is_not_whole_is_said(text: str) -> None:
    with pytest.raises(BadInput, match="mark"):
        marked(text)
    assert labels_in(text) == []


@pytest.mark.parametrize(
    ("text", "label", "message"),
    [
        ("", "a", "0 labels"), ("plain", "a", "0 labels"), ("[[a: b]]", "a", "1 label;"), (TEXT, "", "Choose which"),
        (TEXT, "other", "Choose which"), ("[[a: b", "a", "not whole"),
    ],
)  # fmt: skip
def test_what_no_vector_can_be_made_of_is_refused(text: str, label: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        arguments(Wish("spans", "x", marked=text, label=label), tmp_path)


@pytest.mark.parametrize("layers", [(1,), (1, 2)])
def test_the_job_makes_vectors_of_the_wanted_marks(
    layers: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wish = Wish("spans", "my marks", marked=MARKED[True], label="testing", layers=layers)
    words = arguments(wish, tmp_path)
    prepare(wish, tmp_path)
    assert admitted_command(words, tmp_path) == words and wish_of(words) == wish
    code, out, err = command(monkeypatch, capsys)(*words)
    assert code == 0, err
    made = json.loads(out)
    files = [one["file"] for one in (made if isinstance(made, list) else [made])]
    assert [SteeringVector.load(file).site.layer for file in files] == list(layers)
    assert labels_in(MARKED[False]) == ["checking", "concluding"]
