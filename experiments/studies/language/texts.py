"""The study's own texts: pairs that vectors are extracted from, and labelled sentences that graders are measured on.

Its prompts are the data sets `open-beginnings` and `one-step-problems`.

1. Every text was written for this project. Pairs have a use, `train` or `held-out`, and no sentence has both.
2. Labelled sentences are no pair's and no prompt: neither vectors nor thresholds have seen them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from steering.errors import BadInput
from steering.model.models import LoadedModel
from steering.model.prompts import encode_prompt

from ...tasks.datasets import read_file


def data_file(stem: str) -> Path:
    """A file of the package's texts."""
    return Path(str(files("experiments.studies.language") / "data" / f"{stem}.jsonl"))


def rows(stem: str) -> list[dict[str, Any]]:
    """Its rows, in order."""
    return [dict(row) for row in read_file(data_file(stem))]


def data_digest(stem: str) -> str:
    """Hash of a file's bytes: 16 hexadecimal digits."""
    return hashlib.sha256(data_file(stem).read_bytes()).hexdigest()[:16]


@dataclass(frozen=True)
class Pairs:
    """Positive and negative texts, side by side, of one use."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]


def pairs(stem: str, use: str, n: int | None = None) -> Pairs:
    """The first `n` pairs of a use, `train` or `held-out`; all by default."""
    found = [row for row in rows(stem) if row["use"] == use][:n]
    return Pairs(tuple(str(r["positive"]) for r in found), tuple(str(r["negative"]) for r in found))


def labelled(stem: str) -> list[tuple[str, str]]:
    """(sentence, label) in order."""
    return [(str(row["text"]), str(row["label"])) for row in rows(stem)]


def encoded(model: LoadedModel, texts: tuple[str, ...]) -> list[tuple[int, ...]]:
    """Ids of texts as fed. Raises BadInput where the model's tokenizer loses a part of one, as one of a few words does."""
    found = []
    special = set(model.tokenizer.all_special_ids)
    for text in texts:
        ids = tuple(encode_prompt(model, text))
        back = model.tokenizer.decode([i for i in ids if i not in special])
        if "".join(back.split()) != "".join(text.split()):
            raise BadInput(
                f"{model.id} cannot read the study's texts: of {text[:60]!r} its tokenizer keeps {back[:60]!r}. The study takes any causal "
                f"language model whose tokenizer covers English and French; the built-in pair has its own demo: steer demo."
            )
        found.append(ids)
    return found
