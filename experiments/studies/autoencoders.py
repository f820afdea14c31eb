"""Autoencoders of a model from end to end: texts, training, statistics, quality on texts not trained on, and the card beside the weights.

1. On the built-in models the texts are the model's own sampled responses to training problems; quality is measured on responses to
   development problems. A model with another vocabulary needs a file.
2. On other models the texts are a file's: JSON lines with `text`, or plain text with one text per line. One in twenty is held back as a
   whole; a text longer than a piece is read piece by piece, to its end.
3. A folder is finished when its card has the quality; until then the same call goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from saes.corpus import Text, spread
from saes.loading import load_dictionary
from saes.quality import Quality, assess_dictionary
from saes.shipped import SHIPPED
from saes.statistics import STATISTICS, LatentStatistics, latent_statistics
from saes.training import CARD, TrainingSpec, train_sae
from steering.errors import BadInput
from steering.model.models import LoadedModel
from steering.model.prompts import encode_prompt
from steering.model.sites import Site

from ..pair.problem import split_problems
from ..progress import talk
from ..store.files import write_whole
from .texts import sampled_texts, training_texts

HELD_BACK = 20
"""Of a file's texts, every this many-th is kept for measuring quality."""
QUALITY_PROBLEMS = 96


def read_texts(model: LoadedModel, path: Path, piece: int | None = None) -> list[list[Text]]:
    """Texts of a file, each in pieces of at most `piece` tokens (by default the model's context), every one with BOS where the model
    uses one.

    Raises BadInput for a missing or empty file, a line without text, and pieces that the model cannot read.
    """
    longest = piece or model.context
    if not 2 <= longest <= model.context:
        raise BadInput(f"Pieces of {longest} tokens: {model.id} reads 2 to {model.context}.")
    if not path.is_file():
        raise BadInput(f"No text file at {path}.")
    texts = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        text = line
        if path.suffix == ".jsonl":
            try:
                text = json.loads(line)["text"]
            except (ValueError, KeyError, TypeError) as error:
                raise BadInput(f"{path}, line {number}: expected a JSON object with a text ({error!r}).") from error
        texts.append([Text(ids) for ids in _pieces(model, encode_prompt(model, text), longest)])
    if len(texts) < HELD_BACK:
        raise BadInput(
            f"{path} holds {len(texts)} texts; at least {HELD_BACK} are needed, some of which are held back."
        )
    return texts


def _pieces(model: LoadedModel, ids: tuple[int, ...], longest: int) -> list[tuple[int, ...]]:
    first = ids[:1] if ids[0] == model.tokenizer.bos_token_id else ()
    rest, length = ids[len(first) :], longest - len(first)
    return [first + rest[start : start + length] for start in range(0, max(len(rest), 1), length)]


def _check_words(model: LoadedModel) -> None:
    """Raises BadInput for a model that does not read the built-in task word by word, as its labels and verdicts need."""
    prompt = split_problems("standard-dev", 1)[0].prompt("bare")
    ids = model.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    if [model.tokenizer.decode([token]) for token in ids] != prompt.split():
        raise BadInput(
            f"Without a file, the texts are responses to the built-in task, whose words are not the tokens of {model.id}; give "
            f"--texts FILE."
        )


def texts_of(model: LoadedModel, path: Path | None, problems: int, piece: int | None = None) -> list[Text]:
    """Texts to train on or to read, without those held back. Raises BadInput as `read_texts`."""
    if path is None:
        _check_words(model)
        return training_texts(model, problems)
    return [part for i, text in enumerate(read_texts(model, path, piece)) if i % HELD_BACK for part in text]


def held_back_texts(model: LoadedModel, path: Path | None, piece: int | None = None) -> list[Text]:
    """Texts to measure quality on, which are none of `texts_of`: of a file, every twentieth as a whole. Raises BadInput as `read_texts`."""
    if path is not None:
        return [part for text in read_texts(model, path, piece)[::HELD_BACK] for part in text]
    _check_words(model)
    half = QUALITY_PROBLEMS // 2
    return sampled_texts(model, [*split_problems("standard-dev", half), *split_problems("hard-dev", half)])


def facts_of(
    path: Path, piece: int | None, training: Sequence[Text], held_back: Sequence[Text], about: str = ""
) -> dict[str, Any]:
    """What a card says of the file that texts come from; `about`: in words."""
    content = path.read_bytes()
    return {
        "file": path.name,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "piece": piece,
        "tokens": sum(len(text.ids) for text in training),
        "held_back_tokens": sum(len(text.ids) for text in held_back),
        **({"about": about} if about else {}),
    }


def make_autoencoder(
    model: LoadedModel,
    site: Site,
    spec: TrainingSpec,
    folder: Path,
    texts: Sequence[Text],
    held_back: Sequence[Text],
    console: Console | None = None,
    *,
    facts: Mapping[str, Any] | None = None,
    statistics_tokens: int | None = None,
    loss_tokens: int | None = None,
) -> tuple[Path, Quality]:
    """Train, read statistics and measure quality; returns the folder of the autoencoder. Raises BadInput as `train_sae`.

    `facts`: what the card says of the texts. `statistics_tokens`: read statistics on about so many tokens of `texts`, spread evenly;
    `loss_tokens`: measure the losses on so many of `held_back`; by default on all of them.
    """
    console = console or talk()
    place = train_sae(model, [t.ids for t in texts], site, spec, folder)
    dictionary = load_dictionary(str(place), model=model)
    read = spread(texts, statistics_tokens)
    console.print(f"Reading {len(read)} texts for statistics and {len(held_back)} for quality ...", highlight=False)
    latent_statistics(model, dictionary, read).save(place / STATISTICS)
    quality = assess_dictionary(model, dictionary, held_back, loss_tokens=loss_tokens)
    card = json.loads((place / CARD).read_text())
    if facts:
        card["texts"] = dict(facts)
    measured = {k: v for k, v in asdict(quality).items() if v == v}
    shares = {"recovered": quality.recovered, "recovered_of_mean": quality.recovered_of_mean}
    card["quality"] = {k: round(v, 6) for k, v in {**measured, **shares}.items()}
    if quality.remarks:
        card["remarks"] = list(quality.remarks)
    write_whole(place / CARD, (json.dumps(card, indent=1, sort_keys=True) + "\n").encode())
    return place, quality


def stored_statistics(source: str) -> LatentStatistics:
    """Statistics beside an autoencoder. Raises BadInput, saying how to make them, where there are none."""
    folder = SHIPPED[source].folder if source in SHIPPED else Path(source).expanduser()
    path = folder / STATISTICS
    if not path.exists():
        raise BadInput(
            f"{source} has no {STATISTICS} beside it; read them with `steer sae statistics` and give --statistics."
        )
    return LatentStatistics.load(path)
