"""Data files as people have them: encodings, long fields, capitals in names, rows that are not whole, numbers that are none."""

from __future__ import annotations

import codecs
import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.tasks.datasets import read_file
from experiments.tasks.task import resolve_task
from steering.errors import BadInput

LINE = '{"question": "caf\u00e9?", "answer": "18"}\n'
TABLE = "question,answer\ncaf\u00e9?,18\n"


def items(path: Path, n: int = 1, **spec: Any) -> list[Any]:
    return resolve_task({"dataset": str(path), **spec}).items("test", n)


@pytest.mark.parametrize("name", ["d.jsonl", "d.JSONL", "d.ndjson", "d.json", "d.JSON", "d.csv", "d.CSV", "d.Csv"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_byte_order_mark_and_capitals_in_a_name_change_nothing(tmp_path: Path, name: str, mark: bytes) -> None:
    kind = name.lower().rpartition(".")[2]
    text = TABLE if kind == "csv" else f"[{LINE}]" if kind == "json" else LINE
    (tmp_path / name).write_bytes(mark + text.encode())
    (item,) = items(tmp_path / name)
    assert item.gold == "18" and item.data.question == "caf\u00e9?"


def test_a_parquet_file_is_told_by_its_ending_in_any_case(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": ["a?"], "answer": ["18"]}), tmp_path / "d.PARQUET")
    assert items(tmp_path / "d.PARQUET")[0].gold == "18"
    (tmp_path / "e.parquet").write_text("no table")
    with pytest.raises(BadInput, match=r"e\.parquet is no Parquet file that can be read"):
        items(tmp_path / "e.parquet")


@pytest.mark.parametrize(
    ("name", "lines", "line"),
    [("d.jsonl", [LINE], 1), ("d.jsonl", [LINE.replace("\u00e9", "e"), LINE], 2), ("d.csv", TABLE.splitlines(True), 2)],
)
def test_what_is_not_utf_8_is_refused_with_its_line(tmp_path: Path, name: str, lines: list[str], line: int) -> None:
    (tmp_path / name).write_bytes("".join(lines).encode("latin-1"))
    with pytest.raises(BadInput, match=rf"{name}, line {line} is not UTF-8: byte 0xe9 at place \d+.*iconv -f LATIN1"):
        items(tmp_path / name, n=len(lines) if name.endswith("jsonl") else 1)
    (tmp_path / name).write_bytes("".join(lines).encode("utf-16"))
    with pytest.raises(BadInput, match="UTF-16"):
        items(tmp_path / name)


@pytest.mark.parametrize("size", [140_000, 1_000_000])
def test_a_long_field_is_read(tmp_path: Path, size: int) -> None:
    long = "a" * size
    (tmp_path / "d.csv").write_text(f'question,answer\n"{long}",18\n"two\nlines, and a ""quote""",19\n')
    limit = csv.field_size_limit()
    assert [len(i.data.question) for i in items(tmp_path / "d.csv", 2)] == [size, len('two\nlines, and a "quote"')]
    assert csv.field_size_limit() == limit, "the limit of other readers is left as it was"
    (tmp_path / "d.jsonl").write_text(json.dumps({"question": long, "answer": 18}) + "\n")
    assert len(items(tmp_path / "d.jsonl")[0].data.question) == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question,answer\na?,18\nb?\n", "line 3 lacks the field answer"),
        ("question,answer\na?,18,19\n", "line 2 has more fields than the 2"),
        ('question,answer\na?,18\n"b?,19\n', "line 3 is not CSV"),
    ],
)
def test_a_row_that_is_not_whole_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(BadInput, match=message):
        list(read_file(tmp_path / "d.csv"))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "null", "true", "[1]", "{}"])
def test_an_answer_that_is_no_number_and_no_text_is_refused_with_its_row(tmp_path: Path, value: str) -> None:
    (tmp_path / "d.jsonl").write_text(LINE + f'{{"question": "b?", "answer": {value}}}\n')
    with pytest.raises(BadInput, match=r"row 1: the answer \(answer\) is"):
        items(tmp_path / "d.jsonl", 2)


def test_a_number_missing_from_a_table_is_refused_with_its_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": ["a?", "b?"], "answer": [1.5, float("nan")]}), tmp_path / "d.parquet")
    assert items(tmp_path / "d.parquet")[0].gold == "1.5"
    with pytest.raises(BadInput, match=r"row 1: the answer \(answer\) is nan"):
        items(tmp_path / "d.parquet", 2)
    (tmp_path / "o.jsonl").write_text('{"question": "b?", "answer": 0, "o": ["x", NaN]}\n')
    with pytest.raises(BadInput, match=r"row 0: option B \(o\) is nan"):
        items(tmp_path / "o.jsonl", options="o")


def test_a_small_number_is_written_without_an_exponent(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"question": "a?", "answer": 1e-7}\n')
    assert items(tmp_path / "d.jsonl")[0].gold == "0.0000001"
