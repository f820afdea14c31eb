r"""Data sets as lists of questions with gold answers, from files and the hub, by a mapping of their fields.

1. A source is a JSON-lines, JSON, CSV or Parquet file, or a hub id; known names (`gsm8k`, `math500`, ...) bring their mapping along, and
   `file` reads such a data set from a file instead.
2. The gold answer is a field, or what stands after a marker in it, or its last `\boxed{...}`. A row without one is refused with its place.
3. The first n of a longer list are the shorter list: rows keep the order of the source, and nothing is sampled.
4. Text is UTF-8, with or without a byte order mark, of any length of field; a number that is none (NaN, infinity) is no answer. What cannot
   be read is refused with its row, and so is an id that two rows have; a question that stands there twice is two items (`remarks`).
5. An item's id names its place or its own id, and a hash of question and gold answer: a corrected answer is another item.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from steering.errors import BadInput, unknown

from .graders.final import last_boxes

FILES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
OWN = Path(__file__).parent / "data"
"""The data sets that come with the package."""
KNOWN: dict[str, dict[str, Any]] = {
    "gsm8k": {
        "hub": "openai/gsm8k", "subset": "main", "question": "question", "answer": "answer", "extract": "####",
        "splits": {"train": "train", "test": "test"},
    },
    "math500": {
        "hub": "HuggingFaceH4/MATH-500", "question": "problem", "answer": "answer", "id": "unique_id", "splits": {"test": "test"},
    },
    "aime24": {"hub": "HuggingFaceH4/aime_2024", "question": "problem", "answer": "answer", "id": "id", "splits": {"test": "train"}},
    "aime25": {"hub": "math-ai/aime25", "question": "problem", "answer": "answer", "id": "id", "splits": {"test": "test"}},
    "amc23": {"hub": "math-ai/amc23", "question": "question", "answer": "answer", "id": "id", "splits": {"test": "test"}},
    "open-beginnings": {
        "file": str(OWN / "beginnings-development.jsonl"), "question": "text", "answer": "language", "id": "id",
        "splits": {"development": "", "test": "beginnings-test.jsonl"},
    },
    "one-step-problems": {
        "file": str(OWN / "problems-development.jsonl"), "question": "text", "answer": "steps", "id": "id",
        "splits": {"development": "", "test": "problems-test.jsonl"},
    },
}  # fmt: skip
"""Mappings of known data sets. Splits map this project's names to those of the source. The last two are the project's own."""
LONGEST_FIELD = 2**31 - 1
"""Characters of the longest field of a CSV file."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Source(BaseModel):
    """Where rows come from and what their fields mean."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    dataset: str
    """A known name, a file, or a hub id."""
    file: str | None = None
    """A file to read a known data set from."""
    hub: str | None = None
    subset: str | None = None
    revision: str | None = None
    question: str = "question"
    answer: str = "answer"
    id: str | None = None
    options: str | None = None
    """Of a multiple choice: the field with the list of options, which are shown lettered after the question."""
    extract: str = "whole"
    """`whole`, `boxed`, or a marker such as `####` after which the gold answer stands."""
    splits: dict[str, str] = Field(default_factory=dict)
    """Names of the splits, and of what each is in the source: a hub split, or a file beside the first."""

    @model_validator(mode="before")
    @classmethod
    def _known(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or not isinstance(data.get("dataset"), str):
            return data
        given = dict(data)
        name = given["dataset"]
        if name in KNOWN:
            given = {**KNOWN[name], **given}
            if data.get("file") and "splits" not in data:
                given["splits"] = {"test": ""}
        elif name.lower().endswith(FILES):
            given.setdefault("file", name)
            given.setdefault("splits", {"test": ""})
        elif name.count("/") == 1:
            given.setdefault("hub", name)
            given.setdefault("splits", {"train": "train", "validation": "validation", "test": "test"})
        else:
            error = unknown("data set", name, KNOWN)
            raise ValueError(f"{error} Or give a file ({', '.join(FILES)}) or a hub id such as owner/name.")
        return given

    @property
    def mapping(self) -> dict[str, Any]:
        """What rows are made of, without where they lie: that decides nothing about a row."""
        return {"question": self.question, "answer": self.answer, "options": self.options, "extract": self.extract}


@dataclass(frozen=True)
class Question:
    """One row: its id, the text to ask, and the gold answer."""

    id: str
    question: str
    gold: str


def questions(source: Source, split: str, n: int, folder: Path | None = None) -> list[Question]:
    """The first `n` questions of a split. Files are looked for in `folder`. Raises BadInput, naming the row, for what cannot be read."""
    if split not in source.splits:
        raise unknown("split", split, source.splits, where=f"data set {source.dataset}")
    if n < 1:
        raise BadInput(f"Split {split}: n is {n}; ask for at least one item.")
    found: list[Question] = []
    first: dict[str, int] = {}
    for place, row in enumerate(islice(_rows(source, split, folder or Path()), n)):
        found.append(_question(source, split, place, row))
        if source.id is not None and (before := first.setdefault(str(row[source.id]), place)) != place:
            raise BadInput(
                f"{source.dataset}, {split}: rows {before} and {place} have one id, {source.id} {str(row[source.id])[:80]!r}. Mend one of "
                f"them, or map `id` to a field that tells rows apart."
            )
    if len(found) < n:
        raise BadInput(f"{source.dataset} has {len(found)} items in split {split!r}; {n} were asked for.")
    return found


def _question(source: Source, split: str, place: int, row: Mapping[str, Any]) -> Question:
    where = f"{source.dataset}, {split}, row {place}"
    for key in ("question", "answer", "id", "options"):
        field = getattr(source, key)
        if field is not None and field not in row:
            raise unknown("field", field, row, where=f"{where} ({key}: says which field it is)")
    text = row[source.question]
    if not isinstance(text, str) or not text.strip():
        raise BadInput(f"{where}: the question ({source.question}) is empty or no text.")
    gold = _gold(source, row[source.answer], where)
    if source.options is not None:
        options = row[source.options]
        if not isinstance(options, list | tuple) or not 2 <= len(options) <= len(LETTERS):
            raise BadInput(f"{where}: the options ({source.options}) are no list of 2 to {len(LETTERS)}.")
        empty = next(
            (i for i, o in enumerate(options) if o is None or (isinstance(o, float) and not math.isfinite(o))), None
        )
        if empty is not None:
            raise BadInput(
                f"{where}: option {LETTERS[empty]} ({source.options}) is {options[empty]}, which says nothing."
            )
        text += "\n" + "\n".join(f"{LETTERS[i]}. {option}" for i, option in enumerate(options))
        if isinstance(row[source.answer], int):
            if not 0 <= row[source.answer] < len(options):
                raise BadInput(f"{where}: the answer {row[source.answer]} is no place among {len(options)} options.")
            gold = LETTERS[row[source.answer]]
    name = f"{place:05d}" if source.id is None else str(row[source.id])
    told = hashlib.sha256(json.dumps([text, gold]).encode()).hexdigest()[:8]
    return Question(f"{split}/{name}~{told}", text, gold)


def _gold(source: Source, value: Any, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadInput(f"{where}: the answer ({source.answer}) is {type(value).__name__}, not text or a number.")
    if isinstance(value, float) and not math.isfinite(value):
        raise BadInput(
            f"{where}: the answer ({source.answer}) is {value}, which is no number. Mend the row, or leave it out."
        )
    whole = value.strip() if isinstance(value, str) else _written(value)
    gold: str | None = whole
    if source.extract == "boxed":
        gold = last_boxes(whole)
    elif source.extract != "whole":
        gold = whole.rpartition(source.extract)[2].strip() if source.extract in whole else None
    if not gold:
        raise BadInput(f"{where}: there is no gold answer ({source.extract}) in {whole[-80:]!r}.")
    return gold


def _written(value: float | int) -> str:
    """A number as text, without an exponent where that keeps it exact: 1e-07 is 0.0000001."""
    return format(Decimal(repr(value)), "f") if isinstance(value, float) else str(value)


def _rows(source: Source, split: str, folder: Path) -> Iterator[Mapping[str, Any]]:
    if source.file is not None:
        path = folder / Path(source.file).expanduser()
        yield from read_file(path.parent / source.splits[split] if source.splits[split] else path)
        return
    import datasets

    try:
        loaded = datasets.load_dataset(
            source.hub, source.subset, split=source.splits[split], revision=source.revision, streaming=False
        )
    except Exception as error:  # the hub's client raises many kinds
        raise BadInput(
            f"{source.hub} could not be loaded ({type(error).__name__}: {str(error)[:200]}). "
            f"Without a connection, name a file: {{dataset: {source.dataset}, file: path.jsonl}}."
        ) from error
    yield from loaded


def read_file(path: Path) -> Iterator[Mapping[str, Any]]:
    """Rows of a JSON-lines, JSON (a list), CSV or Parquet file. Raises BadInput with the line that cannot be read."""
    if path.suffix.lower() not in FILES:
        raise BadInput(f"{path}: data sets are read from {', '.join(FILES)}.")
    if not path.is_file():
        raise BadInput(f"There is no data file at {path}.")
    kind = path.suffix.lower()
    if kind == ".parquet":
        yield from _parquet(path)
    elif kind == ".csv":
        yield from _csv(path)
    elif kind == ".json":
        rows = _json("".join(text for _, text in numbered_lines(path)), str(path))
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise BadInput(f"{path} holds no list of mappings.")
        yield from rows
    else:
        for number, line in numbered_lines(path):
            if line.strip():
                row = _json(line, f"{path}, line {number}")
                if not isinstance(row, dict):
                    raise BadInput(f"{path}, line {number} is no mapping.")
                yield row


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a text file, with their ends. Raises BadInput with the line that is not UTF-8."""
    with path.open("rb") as handle:
        for number, line in enumerate(handle, 1):
            if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise BadInput(f"{path} is UTF-16. Save it as UTF-8, for example with: iconv -f UTF-16 -t UTF-8.")
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise BadInput(
                    f"{path}, line {number} is not UTF-8: byte 0x{line[error.start]:02x} at place {error.start}. If it is Latin-1, save it "
                    f"as UTF-8, for example with: iconv -f LATIN1 -t UTF-8."
                ) from error


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    """Rows of a CSV file, whose first line names the fields. Raises BadInput with the line of a row that has more or fewer fields."""
    before = csv.field_size_limit(LONGEST_FIELD)
    try:
        reader = csv.DictReader((text for _, text in numbered_lines(path)), strict=True)
        try:
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row:
                    raise BadInput(
                        f"{where} has more fields than the {len(reader.fieldnames or ())} that the first line names."
                    )
                missing = [name for name, value in row.items() if value is None]
                if missing:
                    raise BadInput(f"{where} lacks the field{'s' * (len(missing) > 1)} {', '.join(missing)}.")
                yield row
        except csv.Error as error:
            raise BadInput(f"{path}, line {reader.reader.line_num} is not CSV: {error}.") from error
    finally:
        csv.field_size_limit(before)


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches(1024):
            yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(f"{path} is no Parquet file that can be read: {str(error).splitlines()[0][:200]}") from error


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadInput(f"{where} is not JSON: {error}") from error
