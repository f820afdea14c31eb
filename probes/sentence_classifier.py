"""A labeller that learns from annotated traces: words, characters, position and neighbours of a sentence, into a logistic regression.

1. Features of a sentence: TF-IDF of its words and word pairs, and of its character 2- to 4-grams; TF-IDF of the words of the sentence
   before and of the one after; its place in the trace; its length; marks such as a question mark, digits or a first word of doubt.
2. Classes weigh the same in training (macro F1 is what is asked for), so a confidence is a probability under equal label shares.
3. Saved without pickle: vocabularies and labels as JSON in the metadata of a safetensors file, weights as tensors. A loaded labeller gives
   the same labels and confidences.
4. What it is scored on it has never seen: `cross_fitted` labels each trace by a classifier trained on other traces.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from scipy import sparse
from scipy.special import softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from steering.errors import BadInput
from steering.extraction.annotations import LABELS
from steering.vector.vectors import write_tensors

from .annotated import AnnotatedTrace, reference_of
from .labels import BehaviourLabel
from .lexicon import RULES
from .sentences import Sentence, sentences

FORMAT = "steering-workbench/sentence-classifier@1"
WORDS: dict[str, Any] = {
    "analyzer": "word",
    "ngram_range": (1, 2),
    "token_pattern": r"(?u)\b\w+'?\w*\b|[?!=]",
    "sublinear_tf": True,
}
CHARACTERS: dict[str, Any] = {"analyzer": "char_wb", "ngram_range": (2, 4), "sublinear_tf": True}
MIN_COUNT = 3
PENALTY = 1.0
"""1/C of scikit-learn. Fixed beforehand, not tuned on the scores."""
MARKS = ("?", "!", "=", "wait", "hmm", "so", "but", "maybe", "let", "i", "alternatively", "okay")
NEIGHBOUR = 0.5
"""Weight of the neighbours' words against the sentence's own."""


@dataclass(frozen=True, eq=False)
class SentenceClassifier:
    """Labels every sentence of a trace."""

    labels: tuple[str, ...]
    words: dict[str, int]
    """Column of each word and pair."""
    characters: dict[str, int]
    word_idf: np.ndarray
    character_idf: np.ndarray
    weights: np.ndarray
    """`[labels, features]` float32."""
    bias: np.ndarray
    traces: int = 0
    """Traces it learned from."""
    facts: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Hash of weights, labels and vocabularies: 8 hexadecimal digits."""
        found = hashlib.sha256(self.weights.tobytes() + self.bias.tobytes())
        found.update(json.dumps([self.labels, self.words, self.characters], sort_keys=True).encode())
        return found.hexdigest()[:8]

    @property
    def detector(self) -> str:
        return f"sentence classifier {self.digest}"

    @cached_property
    def _vectorizers(self) -> tuple[TfidfVectorizer, TfidfVectorizer]:
        return _loaded(WORDS, self.words, self.word_idf), _loaded(CHARACTERS, self.characters, self.character_idf)

    def probabilities(self, found: Sequence[Sentence]) -> np.ndarray:
        """`[sentences, labels]` for the sentences of one trace, in order."""
        if not found:
            return np.zeros((0, len(self.labels)))
        x = _features(*self._vectorizers, [list(found)])
        return np.asarray(softmax(x @ self.weights.T.astype(np.float64) + self.bias, axis=1))

    def label(self, text: str) -> tuple[BehaviourLabel, ...]:
        """One label per sentence, in characters; the confidence is the label's probability."""
        found = sentences(text)
        p = self.probabilities(found)
        return tuple(
            BehaviourLabel(s.start, s.end, self.labels[int(row.argmax())], self.detector, float(row.max()))
            for s, row in zip(found, p, strict=True)
        )

    def save(self, path: Path | str) -> Path:
        """Write to `path` atomically."""
        tensors = {
            name: torch.from_numpy(np.ascontiguousarray(getattr(self, name)))
            for name in ("word_idf", "character_idf", "weights", "bias")
        }
        facts = {
            "labels": self.labels, "traces": self.traces, "facts": self.facts,
            "words": sorted(self.words, key=lambda w: self.words[w]),
            "characters": sorted(self.characters, key=lambda w: self.characters[w]),
        }  # fmt: skip
        return write_tensors(path, tensors, {"format": FORMAT, "classifier": json.dumps(facts)})

    @staticmethod
    def load(path: Path | str) -> SentenceClassifier:
        """Read what `save` wrote. Raises BadInput for anything but a whole file in this format."""
        path = Path(path)
        if not path.is_file():
            raise BadInput(f"No sentence classifier at {path}. `steer probe labellers --out` writes one.")
        try:
            with safe_open(path, "pt") as handle:
                metadata = handle.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise BadInput(f"{path} does not hold a sentence classifier: its metadata lacks format {FORMAT!r}.")
                tensors = {name: handle.get_tensor(name).numpy() for name in handle.keys()}
            facts = json.loads(metadata["classifier"])
            words, characters = ({w: i for i, w in enumerate(facts[n])} for n in ("words", "characters"))
            return SentenceClassifier(
                tuple(facts["labels"]), words, characters, **tensors, traces=facts["traces"], facts=facts["facts"]
            )
        except BadInput:
            raise
        except (SafetensorError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise BadInput(f"{path} is corrupt or cut short ({error}); train the classifier again.") from error


def fit_sentence_classifier(
    traces: Sequence[AnnotatedTrace], labels: Sequence[str] = LABELS, *, penalty: float = PENALTY
) -> SentenceClassifier:
    """Train on the sentences that have a reference label. Labels without a sentence are left out of the classes.

    Raises BadInput when fewer than two labels occur, or the sentences share no words.
    """
    places, reference = reference_of(traces)
    known = tuple(label for label in labels if label in reference)
    if len(known) < 2:
        raise BadInput(
            f"The annotated traces hold {len(known)} of the labels {', '.join(labels)}; two or more are needed."
        )
    kept = [i for i, label in enumerate(reference) if label in known]
    texts = [s.text for t in traces for s in t.sentences]
    try:
        words = TfidfVectorizer(min_df=MIN_COUNT, lowercase=True, **WORDS).fit(texts)
        characters = TfidfVectorizer(min_df=MIN_COUNT, lowercase=True, **CHARACTERS).fit(texts)
    except ValueError as error:
        raise BadInput(
            f"There is no word that {MIN_COUNT} of {len(texts)} sentences share; give more traces."
        ) from error
    whole = _features(words, characters, [list(t.sentences) for t in traces])
    starts = np.cumsum([0, *(len(t.sentences) for t in traces)])
    rows = [int(starts[places[i][0]]) + places[i][1] for i in kept]
    y = np.array([known.index(reference[i]) for i in kept])
    model = LogisticRegression(C=1 / penalty, class_weight="balanced", max_iter=300, tol=1e-3).fit(whole[rows], y)
    weights, bias = model.coef_, model.intercept_
    if len(known) == 2:
        weights, bias = np.stack([0 * weights[0], weights[0]]), np.array([0.0, bias[0]])
    return SentenceClassifier(
        known,
        {w: int(i) for w, i in words.vocabulary_.items()},
        {w: int(i) for w, i in characters.vocabulary_.items()},
        words.idf_.astype(np.float64),
        characters.idf_.astype(np.float64),
        weights.astype(np.float32),
        bias.astype(np.float64),
        len(traces),
        {"sentences": len(rows), "penalty": penalty},
    )


def cross_fitted(
    traces: Sequence[AnnotatedTrace], folds: int = 5, *, penalty: float = PENALTY
) -> list[tuple[BehaviourLabel, ...]]:
    """Labels of each trace by a classifier that was trained on other folds of traces."""
    if len(traces) < folds:
        raise BadInput(f"{len(traces)} traces cannot be divided into {folds} folds; give fewer folds.")
    found: list[tuple[BehaviourLabel, ...]] = [()] * len(traces)
    for train, test in GroupKFold(folds, shuffle=True, random_state=0).split(traces, groups=[t.number for t in traces]):
        classifier = fit_sentence_classifier([traces[i] for i in train], penalty=penalty)
        for i in test:
            found[i] = classifier.label(traces[i].text)
    return found


def _features(
    words: TfidfVectorizer, characters: TfidfVectorizer, traces: Sequence[list[Sentence]]
) -> sparse.csr_matrix:
    """One row per sentence, traces after each other; neighbours never cross from one trace into another."""
    texts = [s.text for trace in traces for s in trace]
    own = words.transform(texts)
    lengths = [len(trace) for trace in traces]
    starts = np.cumsum([0, *lengths])
    before = [None if i in set(starts.tolist()) else i - 1 for i in range(len(texts))]
    ends = {int(s) - 1 for s in starts[1:]}
    after = [None if i in ends else i + 1 for i in range(len(texts))]
    dense = np.array([_marks(s, k, len(trace)) for trace in traces for k, s in enumerate(trace)])
    parts = [own, characters.transform(texts), _moved(own, before), _moved(own, after), sparse.csr_matrix(dense)]
    return sparse.hstack(parts).tocsr()


def _moved(own: sparse.csr_matrix, rows: Sequence[int | None]) -> sparse.csr_matrix:
    """`own` with row i replaced by row rows[i], empty where there is none, at the weight of a neighbour."""
    real = [(i, r) for i, r in enumerate(rows) if r is not None]
    data = np.full(len(real), NEIGHBOUR)
    picker = sparse.csr_matrix((data, ([i for i, _ in real], [r for _, r in real])), shape=(len(rows), own.shape[0]))
    return picker @ own


def _marks(sentence: Sentence, number: int, count: int) -> list[float]:
    text = sentence.text.lower()
    first = text.split()[0].strip(",.!?'\"") if text.split() else ""
    place = number / max(count - 1, 1)
    digits = sum(c.isdigit() for c in text) / max(len(text), 1)
    return [
        place, float(number == 0), float(number < 3), float(number < 8), float(place > 0.9),
        min(len(text), 400) / 400, digits, *(float(first == m or (len(m) == 1 and m in "?!=" and m in text)) for m in MARKS),
        *(float(rule.pattern.search(text) is not None) for rule in RULES),
    ]  # fmt: skip


def _loaded(options: dict[str, Any], vocabulary: dict[str, int], idf: np.ndarray) -> TfidfVectorizer:
    vectorizer = TfidfVectorizer(lowercase=True, vocabulary=vocabulary, **options)
    vectorizer.idf_ = idf
    return vectorizer
