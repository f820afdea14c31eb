"""Categories of reasoning: a sentence autoencoder of the thinking model, chosen over layers and sizes (2510.07364, App. A, B).

1. Sentences are those of greedy traces on training problems; every layer and size is trained on the same ones, and scored.
2. With labelled sentences the three scores of App. B are computed from labels instead of an LLM judge: *consistency*, the mean over
   categories of the F1 of "has the category's title label" for "is in the category"; *completeness*, the share of sentences whose own
   category's title fits them; *independence*, the share of category pairs whose label distributions overlap by less than a half.
3. The final score is their plain average, and the best layer and size is kept; ties go to fewer categories, then to the lower layer.
4. A title is the label that most of a category's sentences carry, with the words that set it apart from other categories of that label.
5. With a judging model (`judging`), titles and scores are its own, and labels are not needed.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from probes.endpoint import Endpoint
from saes.sentence_text import SentenceVectors, response_sentence_vectors
from saes.sentence_training import train_sentence_sae
from saes.sentences import SentenceSAE
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.hybrid import Readout
from steering.model.models import LoadedModel
from steering.model.sites import Site

from .judging import judged

OVERLAP = 0.5
WORDS_SHOWN = 2


@dataclass(frozen=True)
class Traces:
    """What the thinking model wrote, in ids as it was fed and as it wrote them."""

    prompts: tuple[tuple[int, ...], ...]
    responses: tuple[tuple[int, ...], ...]
    """Without the end token."""


@dataclass(frozen=True)
class GridPoint:
    """One autoencoder of the grid; scores in [0, 1]."""

    layer: int
    size: int
    used: int
    """Categories that any sentence falls into."""
    consistency: float
    completeness: float
    independence: float

    @property
    def score(self) -> float:
        return (self.consistency + self.completeness + self.independence) / 3


@dataclass(frozen=True, eq=False)
class Taxonomy:
    """The chosen autoencoder with titles, and the grid it was chosen from."""

    sae: SentenceSAE
    grid: tuple[GridPoint, ...]
    shares: tuple[float, ...]
    """Share of sentences per category."""
    exemplars: tuple[tuple[str, ...], ...]
    """Sentences of each category with the largest pre-activation."""
    scored_by: str
    """What the scores were computed from."""


def greedy_traces(model: LoadedModel, prompts: Sequence[tuple[int, ...]], max_new_tokens: int) -> Traces:
    """One greedy trace per prompt."""
    found = generate(
        model, [Row(ids) for ids in prompts], GenerationSettings(max_new_tokens), batch_size=96, detail="tokens"
    )
    written = (tuple(t for t in one.token_ids if t not in model.eos_ids) for one in found)
    return Traces(tuple(prompts), tuple(written))


def read_sentences(model: LoadedModel, traces: Traces, layer: int, most: int) -> SentenceVectors:
    """Sentence vectors of one layer, at most `most`, taken evenly over the traces."""
    found = response_sentence_vectors(model, traces.prompts, traces.responses, Site(layer), batch_size=32)
    if len(found.sentences) <= most:
        return found
    keep = np.linspace(0, len(found.sentences) - 1, most).astype(int)
    chosen = tuple(found.sentences[i] for i in keep)
    return SentenceVectors(found.vectors[torch.from_numpy(keep)], found.mean, chosen, found.site, found.data)


def grid_scores(labels: Sequence[str], categories: np.ndarray, layer: int, size: int) -> GridPoint:
    """The scores of one assignment of labelled sentences to categories."""
    names = sorted(set(labels))
    own = np.array([names.index(label) for label in labels])
    counts = np.zeros((size, len(names)))
    np.add.at(counts, (categories, own), 1)
    used = np.flatnonzero(counts.sum(1))
    titles = counts.argmax(1)
    f1 = []
    for c in used:
        hits = counts[c, titles[c]]
        f1.append(2 * hits / (counts[c].sum() + counts[:, titles[c]].sum()))
    fits = counts[used, titles[used]].sum() / counts.sum()
    shares = counts[used] / counts[used].sum(1, keepdims=True)
    pairs = [np.minimum(shares[a], shares[b]).sum() < OVERLAP for a, b in itertools.combinations(range(len(used)), 2)]
    return GridPoint(layer, size, len(used), float(np.mean(f1)), float(fits), float(np.mean(pairs)) if pairs else 0.0)


def titles_of(sentences: Sequence[str], labels: Sequence[str], categories: np.ndarray, size: int) -> tuple[str, ...]:
    """A name for every category: its commonest label, and the words that set it apart from others of that label."""
    first = []
    for c in range(size):
        own = Counter(labels[int(i)] for i in np.flatnonzero(categories == c))
        first.append(own.most_common(1)[0][0] if own else "unused")
    found = []
    for c, label in enumerate(first):
        rivals = [d for d in range(size) if d != c and first[d] == label]
        if not rivals or label == "unused":
            found.append(label)
            continue
        rates = [_word_rates(sentences, categories, own) for own in (c, *rivals)]
        mine = {w: r - max(other.get(w, 0.0) for other in rates[1:]) for w, r in rates[0].items()}
        apart = [w for w, lead in sorted(mine.items(), key=lambda pair: (-pair[1], pair[0])) if lead > 0][:WORDS_SHOWN]
        found.append(f"{label} ({' '.join(apart)})" if apart else f"{label} ({c})")
    return tuple(found)


def _word_rates(sentences: Sequence[str], categories: np.ndarray, category: int) -> dict[str, float]:
    """Share of a category's sentences that hold each word which is not a number."""
    chosen = np.flatnonzero(categories == category)
    seen = Counter(w for i in chosen for w in set(sentences[int(i)].split()) if not w.strip(".,;:!?").isdigit())
    return {word: count / len(chosen) for word, count in seen.items()}


def choose_taxonomy(
    model: LoadedModel,
    traces: Traces,
    labelled: dict[tuple[int, int, int], str],
    layers: Sequence[int],
    sizes: Sequence[int],
    most: int,
    scored_by: str,
    seed: int = 0,
    judge: Endpoint | None = None,
) -> Taxonomy:
    """Train every layer and size, score, and keep the best. `labelled` gives the label of a sentence by (text, first, last token).

    Raises BadInput when no sentence is labelled and there is no judge.
    """
    grid: list[GridPoint] = []
    kept: dict[tuple[int, int], tuple[SentenceSAE, SentenceVectors, np.ndarray, tuple[str, ...]]] = {}
    for layer in layers:
        vectors = read_sentences(model, traces, layer, most)
        known = [i for i, s in enumerate(vectors.sentences) if (s.text, s.first, s.last) in labelled]
        if not known and judge is None:
            raise BadInput(
                f"None of the {len(vectors.sentences)} sentences has a label, so the taxonomy cannot be scored."
            )
        words = [sentence.words for sentence in vectors.sentences]
        labels = [labelled.get((s.text, s.first, s.last), "unlabelled") for s in vectors.sentences]
        for size in sizes:
            sae = train_sentence_sae(vectors.vectors, size, min(3, size), seed, mean=vectors.mean, site=Site(layer))
            categories = sae.categories(vectors.vectors).numpy()
            if judge is None:
                grid.append(grid_scores([labels[i] for i in known], categories[known], layer, size))
                titles = titles_of(words, labels, categories, size)
            else:
                found = judged(judge, words, categories, _strength(sae, vectors, categories), size, seed)
                scores = found.consistency, found.completeness, found.independence
                grid.append(GridPoint(layer, size, len(np.unique(categories)), *scores))
                titles = tuple(name.title for name in found.names)
            kept[layer, size] = sae, vectors, categories, titles
    best = max(grid, key=lambda point: (round(point.score, 9), -point.size, -point.layer))
    sae, vectors, categories, titles = kept[best.layer, best.size]
    words = [sentence.words for sentence in vectors.sentences]
    titled = SentenceSAE(
        sae.encoder, sae.bias, sae.decoder, sae.b_dec, sae.mean, sae.k, sae.site, titles,
        {**sae.provenance, "model": model.fingerprint, "sentences": vectors.data},
    )  # fmt: skip
    strength = _strength(sae, vectors, categories)
    exemplars = []
    for c in range(sae.n):
        own = np.flatnonzero(categories == c)
        exemplars.append(tuple(words[i] for i in own[np.argsort(-strength[own])][:5]))
    shares = np.bincount(categories, minlength=sae.n) / len(categories)
    return Taxonomy(titled, tuple(grid), tuple(map(float, shares)), tuple(exemplars), scored_by)


def _strength(sae: SentenceSAE, vectors: SentenceVectors, categories: np.ndarray) -> np.ndarray:
    """Each sentence's pre-activation in its own category."""
    return sae.pre_activations(vectors.vectors).gather(1, torch.from_numpy(categories)[:, None])[:, 0].numpy()


def category_readout(sae: SentenceSAE) -> Readout:
    """The autoencoder's categories as a readout of token activations. Raises BadInput when it has no mean or site."""
    if sae.mean is None or sae.site is None:
        raise BadInput("A sentence autoencoder without a centring mean and a site cannot read tokens' categories.")
    bias = sae.bias - sae.encoder @ sae.b_dec
    return Readout(sae.site, sae.encoder, bias, sae.mean, True, sae.titles, dict(sae.provenance))
