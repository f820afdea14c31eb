"""Autoencoders of a model from end to end: texts, training, statistics, quality on texts not trained on, and the card beside the weights.

1. On the built-in models the texts are the model's own sampled responses to training problems; quality is measured on responses to
   development problems.
2. On other models the texts are a file's: JSON lines with `text`, or plain text with one text per line. One in twenty is held back.
3. A folder is finished when its card has the quality; until then the same call goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from saes.corpus import Text
from saes.loading import load_dictionary
from saes.quality import Quality, assess_dictionary
from saes.statistics import STATISTICS, LatentStatistics, latent_statistics
from saes.training import CARD, TrainingSpec, train_sae
from steering.errors import BadInput
from steering.model.models import LoadedModel
from steering.model.prompts import encode_prompt
from steering.model.sites import Site
from steering.model.sources import BUILTINS

from ..pair.problem import split_problems
from ..progress import talk
from ..store.files import write_whole
from .texts import sampled_texts, training_texts

HELD_BACK = 20
"""Of a file's texts, every this many-th is kept for measuring quality."""
QUALITY_PROBLEMS = 96


def read_texts(model: LoadedModel, path: Path) -> list[Text]:
    """Texts of a file, each cut to the model's context. Raises BadInput for a missing or empty file, or a line without text."""
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
        texts.append(Text(encode_prompt(model, text)[: model.context]))
    if len(texts) < HELD_BACK:
        raise BadInput(
            f"{path} holds {len(texts)} texts; at least {HELD_BACK} are needed, some of which are held back."
        )
    return texts


def texts_of(model: LoadedModel, path: Path | None, problems: int) -> list[Text]:
    """Texts to train on or to read, without those held back. Raises BadInput as `read_texts`."""
    if path is None:
        return training_texts(model, problems)
    return [text for number, text in enumerate(read_texts(model, path)) if number % HELD_BACK]


def held_back_texts(model: LoadedModel, path: Path | None) -> list[Text]:
    """Texts to measure quality on, which are none of `texts_of`. Raises BadInput as `read_texts`."""
    if path is not None:
        return read_texts(model, path)[::HELD_BACK]
    half = QUALITY_PROBLEMS // 2
    return sampled_texts(model, [*split_problems("standard-dev", half), *split_problems("hard-dev", half)])


def make_autoencoder(
    model: LoadedModel,
    site: Site,
    spec: TrainingSpec,
    folder: Path,
    texts: Sequence[Text],
    held_back: Sequence[Text],
    console: Console | None = None,
) -> tuple[Path, Quality]:
    """Train, read statistics and measure quality; returns the folder of the autoencoder. Raises BadInput as `train_sae`."""
    console = console or talk()
    place = train_sae(model, [t.ids for t in texts], site, spec, folder)
    dictionary = load_dictionary(str(place), model=model)
    console.print(f"Reading {len(texts)} texts for statistics and {len(held_back)} for quality ...", highlight=False)
    latent_statistics(model, dictionary, texts).save(place / STATISTICS)
    quality = assess_dictionary(model, dictionary, held_back)
    card = json.loads((place / CARD).read_text())
    card["quality"] = {k: round(v, 6) for k, v in asdict(quality).items()} | {"recovered": round(quality.recovered, 6)}
    if quality.remarks:
        card["remarks"] = list(quality.remarks)
    write_whole(place / CARD, (json.dumps(card, indent=1, sort_keys=True) + "\n").encode())
    return place, quality


def stored_statistics(source: str) -> LatentStatistics:
    """Statistics beside an autoencoder. Raises BadInput, saying how to make them, where there are none."""
    folder = BUILTINS[source] / "sae" if source in BUILTINS else Path(source).expanduser()
    path = folder / STATISTICS
    if not path.exists():
        raise BadInput(
            f"{source} has no {STATISTICS} beside it; read them with `steer sae statistics` and give --statistics."
        )
    return LatentStatistics.load(path)
