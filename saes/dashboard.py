"""What every latent of an autoencoder responds to, computed in one pass over texts and stored in a folder that is read latent by latent.

    features.parquet    a row per latent: how often and how strongly, histogram, logits, neighbours, where it fires
    examples.parquet    windows of tokens per latent, the strongest and some of every octave below (`examples`)
    dashboard.json      what it was computed from: digests of autoencoder, model and texts, and the counts that rates refer to

1. One pass over the texts; memory is `latents` times a constant (`activity`, `examples`), whatever the length of the corpus.
2. The folder appears whole or not at all: it is written under a temporary name and renamed. The same inputs give the same bytes.
3. A folder is refused for another autoencoder than it was computed from.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from steering.errors import BadInput
from steering.model.models import LoadedModel

from .activity import PARTS, SAMPLE, Activity, Coactivation
from .corpus import Text, encoded
from .dashboard_files import EXAMPLES, FEATURE_COLUMNS, FEATURES, write_examples, write_features
from .dictionary import Dictionary
from .examples import BANDS, TOP, Sampler

FORMAT = "steering-workbench/dashboard@1"
FACTS = "dashboard.json"


@dataclass(frozen=True)
class Example:
    """A window of tokens around one on which a latent is active."""

    band: int
    """0: among the strongest. b: activations of the b-th octave from the latent's peak down; the last band holds all below it."""
    low: float
    """Smallest activation of the band."""
    activation: float
    count: int
    """How often this window occurs in the band (band 0: since it was first among the strongest)."""
    text: int
    """Number of the text in the corpus."""
    position: int
    """Of the active token in the text."""
    start: int
    """Of the window's first token in the text."""
    prompt: int
    """Tokens of the window that belong to the prompt; the rest was generated."""
    active: int
    """Place of the active token in the window."""
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    """Along the window; 0 on special tokens, which are not counted."""


@dataclass(frozen=True)
class Dashboard:
    """A computed dashboard. Nothing but `facts` is read before it is asked for."""

    folder: Path
    facts: dict[str, Any]
    """Content of dashboard.json."""

    @staticmethod
    def open(folder: Path | str, dictionary: Dictionary | str | None = None) -> Dashboard:
        """The dashboard in `folder`. Raises BadInput where there is none, or it is not of `dictionary` (or of the digest given)."""
        folder = Path(folder)
        try:
            facts = json.loads((folder / FACTS).read_text())
        except FileNotFoundError:
            raise BadInput(f"No dashboard at {folder}; compute one with build_dashboard.") from None
        except ValueError as error:
            raise BadInput(
                f"{folder / FACTS} is corrupt or cut short ({error}); compute the dashboard again."
            ) from error
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise BadInput(f"{folder / FACTS} is not a dashboard of format {FORMAT!r}; compute the dashboard again.")
        missing = [name for name in (FEATURES, EXAMPLES) if not (folder / name).is_file()]
        if missing:
            raise BadInput(f"{folder} lacks {', '.join(missing)}; compute the dashboard again.")
        digest = dictionary.digest if isinstance(dictionary, Dictionary) else dictionary
        if digest is not None and digest != facts["dictionary"]:
            name = dictionary.name if isinstance(dictionary, Dictionary) else "the one asked for"
            raise BadInput(
                f"The dashboard in {folder} is of autoencoder {facts['name']} ({facts['dictionary']}), not of {name} ({digest}); "
                f"compute one for it."
            )
        return Dashboard(folder, facts)

    @property
    def latents(self) -> int:
        return int(self.facts["latents"])

    def table(self) -> pd.DataFrame:
        """One row per latent, without the columns that hold lists."""
        plain = [field.name for field in FEATURE_COLUMNS if not pa.types.is_list(field.type)]
        return pq.read_table(self.folder / FEATURES, columns=plain).to_pandas()

    def feature(self, latent: int) -> dict[str, Any]:
        """The row of one latent, as plain values (`FEATURE_COLUMNS`). Raises BadInput for one that does not exist."""
        return self._rows(FEATURES, latent)[0]

    def examples(self, latent: int) -> tuple[Example, ...]:
        """Examples of one latent: the strongest first, then band by band; none where it was never active."""
        found = []
        for row in self._rows(EXAMPLES, latent):
            fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in row.items()}
            del fields["latent"]
            found.append(Example(**fields))
        return tuple(found)

    def _rows(self, name: str, latent: int) -> list[dict[str, Any]]:
        if not 0 <= latent < self.latents:
            raise BadInput(
                f"Latent {latent} does not exist: the autoencoder has {self.latents}, 0 to {self.latents - 1}."
            )
        return pq.read_table(self.folder / name, filters=[("latent", "=", latent)]).to_pylist()


def build_dashboard(
    model: LoadedModel,
    dictionary: Dictionary,
    texts: Sequence[Text],
    folder: Path | str,
    *,
    bins: int = 2,
    examples: int = 5,
    strongest: int | None = None,
    before: int = 16,
    after: int = 8,
    tokens: int = 10,
    neighbours: int = 8,
    sample: int = SAMPLE,
    seed: int = 0,
    batch_size: int = 16,
) -> Dashboard:
    """Read `texts` once and write the dashboard of every latent to `folder`, in place of one that is there.

    `bins`: of the histogram, per doubling of the activation. `examples`: windows for each band, and `strongest` for the strongest (by
    default as many), of `before` tokens before the active one and `after` behind it. `tokens`: promoted and demoted ones that are listed.
    `neighbours`: by decoder cosine, and by co-activation on a sample of `sample` tokens.

    Raises BadInput for a setting below 1, a folder that holds something else, texts of special tokens only, and as `encoded`.
    """
    strongest = examples if strongest is None else strongest
    settings = {
        "bins": bins,
        "examples": examples,
        "strongest": strongest,
        "tokens": tokens,
        "neighbours": neighbours,
        "sample": sample,
    }
    for name, value in settings.items():
        if value < 1:
            raise BadInput(f"{name} {value} must be at least 1.")
    if min(before, after) < 0:
        raise BadInput(f"A window of {before} tokens before and {after} after is not one; give 0 or more.")
    folder = Path(folder)
    if folder.exists() and not (folder / FACTS).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} holds something that is not a dashboard; choose another folder.")
    activity = Activity(dictionary.latents, sorted({span.label for text in texts for span in text.spans}), bins=bins)
    together = Coactivation(dictionary.latents, most=sample, seed=seed)
    sampler = Sampler(dictionary.latents, examples, strongest=strongest, before=before, after=after, seed=seed)
    for batch in encoded(model, dictionary, texts, batch_size=batch_size):
        activity.add(batch, texts)
        together.add(batch)
        sampler.add((batch.latents * batch.mask[..., None]).numpy(), batch.texts, texts)
    if not activity.tokens:
        raise BadInput("The texts hold special tokens only; there is nothing to read.")
    groups = activity.groups.long().tolist()
    facts = {
        "format": FORMAT,
        "dictionary": dictionary.digest,
        "name": dictionary.name,
        "site": dictionary.site.name,
        "latents": dictionary.latents,
        "model": model.fingerprint,
        "model_id": model.id,
        "tokenizer": model.tokenizer_fingerprint,
        "corpus": corpus_digest(texts),
        "texts": len(texts),
        "tokens": activity.tokens,
        "dead": int((activity.active == 0).sum()),
        "position_tokens": groups[:PARTS],
        "right_tokens": groups[PARTS],
        "wrong_tokens": groups[PARTS + 1],
        "labels": list(activity.labels),
        "label_tokens": groups[PARTS + 2 :],
        "coactivation": {"measure": "phi", "tokens": together.tokens},
        "bands": {"strongest": TOP, "octaves": BANDS},
        "window": [before, after],
        **({"remarks": [said]} if (said := dictionary.origin(model)) else {}),
        "settings": {**settings, "seed": seed},
    }
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        write_features(partial / FEATURES, model, dictionary, activity, together, tokens, neighbours)
        write_examples(partial / EXAMPLES, model, texts, sampler.finished(), before, after)
        (partial / FACTS).write_text(json.dumps(facts, indent=1))
        _replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Dashboard.open(folder, dictionary)


def corpus_digest(texts: Sequence[Text]) -> str:
    """Hash of tokens, prompts, spans and answers: 16 hexadecimal digits."""
    found = hashlib.sha256()
    for text in texts:
        spans = [(span.label, span.start, span.end) for span in text.spans]
        found.update(json.dumps([text.ids, text.prompt, spans, text.correct]).encode())
    return found.hexdigest()[:16]


def _replace(partial: Path, folder: Path) -> None:
    """Make `partial` durable and put it where `folder` is."""
    for path in partial.iterdir():
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
