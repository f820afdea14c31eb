"""Jacobian lenses of a model, fitted once: what they are fitted on, and where they are kept.

1. The built-in models read their own sampled responses to training problems, from the prompt's last token on; any other model reads a
   person's text file, one text per line.
2. A fitted lens lies in the cache under a hash of the weights, the site, the token sequences and the settings; what is not there yet is
   fitted in one pass for all sites. A cache that cannot be written loses nothing: the lens is used, and it is said.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from steering.errors import BadInput
from steering.extraction.jacobian import FORMAT, LONGEST, SKIP, JacobianLens, fit_jacobian
from steering.files import DiskFull
from steering.model.cached import cache_root, is_whole, made
from steering.model.models import LoadedModel
from steering.model.prompts import encode_prompt
from steering.model.sites import Site
from steering.model.sources import BUILTINS

from ..tasks.own_texts import text_lines
from .texts import training_texts

TEXTS = 96
"""Texts that are read by default."""
FORMS = 3
"""Prompt forms of the built-in task, each of which asks every problem."""
FILE = "lens.safetensors"


@dataclass(frozen=True)
class LensTexts:
    """Token sequences, the position of each from which on it is read (None: its beginning), and what they are in words."""

    sequences: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...] | None
    about: str


@dataclass(frozen=True)
class FittedLenses:
    """Lenses by site, how many of them came from the cache, and what is to be said of keeping them."""

    by_site: dict[Site, JacobianLens]
    kept: int = 0
    said: tuple[str, ...] = field(default=())


def check_texts_for(model: str, path: Path | None, n: int) -> list[str] | None:
    """The lines of the file, None where a built-in model reads its own responses. Raises BadInput, before a model is loaded, where there is
    nothing to read."""
    if n < 2:
        raise BadInput(f"{n} texts are too few: two halves of them are compared, so give 2 at least.")
    if path is not None:
        return text_lines(path)[:n]
    if model not in BUILTINS:
        raise BadInput(
            f"What should {model} read? Only the built-in models have texts of their own; give --texts FILE, one text per line, such as "
            "those that it is steered on."
        )
    return None


def lens_texts(model: LoadedModel, lines: Sequence[str] | None, n: int = TEXTS) -> LensTexts:
    """Texts to fit on: the lines of a person's file; else `n` sampled responses of a built-in model, from the prompt's last token on."""
    if lines is not None:
        return LensTexts(tuple(encode_prompt(model, line) for line in lines), None, f"{len(lines)} texts of a file")
    found = training_texts(model, -(-n // FORMS))[:n]
    return LensTexts(
        tuple(tuple(text.ids) for text in found), tuple(text.prompt - 1 for text in found),
        f"{len(found)} responses of {model.id} to training problems, sampled at temperature 1",
    )  # fmt: skip


def fitted_lenses(
    model: LoadedModel,
    texts: LensTexts,
    sites: Sequence[Site],
    *,
    skip: int = SKIP,
    longest: int = LONGEST,
    on_progress: Callable[[int, int], None] | None = None,
) -> FittedLenses:
    """The lenses of `sites`, from the cache where they are there. Raises BadInput as `fit_jacobian`."""
    places = {site: _place(model, texts, site, skip, longest) for site in dict.fromkeys(sites)}
    there = {site: JacobianLens.load(place / FILE) for site, place in places.items() if is_whole(place)}
    missing = [site for site in places if site not in there]
    if not missing:
        return FittedLenses(there, len(there))
    fresh = fit_jacobian(
        model, texts.sequences, missing, starts=texts.starts, skip=skip, longest=longest, on_progress=on_progress
    )
    said: dict[str, None] = {}
    for site, lens in fresh.items():
        try:
            made(places[site], lambda folder, lens=lens: lens.save(folder / FILE))  # type: ignore[misc]
        except (BadInput, DiskFull) as error:
            said[f"The fitted lens is used and not kept: {error}"] = None
    return FittedLenses({site: {**there, **fresh}[site] for site in places}, len(there), tuple(said))


def _place(model: LoadedModel, texts: LensTexts, site: Site, skip: int, longest: int) -> Path:
    """The cache's folder of one lens."""
    facts = [FORMAT, model.fingerprint, str(model.dtype), site.name, texts.sequences, texts.starts, skip, longest]
    return cache_root() / "lenses" / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
