"""ReasonScore (Galichin et al., arXiv 2503.18878): latents that are active around words of reasoning, and not around one of them only.

    s_i = mu(i, R) / sum_j mu(j, R) * H_i^alpha - mu(i, not R) / sum_j mu(j, not R)
    H_i = -1/log|R| sum_r p_i(r) log p_i(r),    p_i(r) = mu(i, D_r) / sum_r' mu(i, D_r')

with mu(i, D) the mean over the tokens D of latent i's activation times the norm of its decoder row, D_r the tokens in a window around an
occurrence of word r, R their union over the words, and sums over j running over the latents.

1. A word occurs where the text of the tokens spells it, whole, in any case if it is written in lower case here and as written otherwise;
   so a word with or without a space before it, cut into several tokens, or made of two words is found alike.
2. A window is `before` tokens, the word's own tokens and `after` tokens, cut at the ends of the text. A token in several windows of a word
   counts once for it, and once in R. Special tokens count nowhere.
3. A word that never occurs is left out: |R| counts those that occur. Where a latent is silent in all windows, its p is not defined; its H
   is 0 then, and its score the second term alone.
4. A score is keyed to words by construction: what it ranks high may be a detector of tokens (`injection` tells).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from steering.errors import BadInput
from steering.model.models import LoadedModel

from .estimates import Estimates, jackknifed

WORDS = (
    "alternatively", "hmm", "maybe", "wait", "perhaps", "let me", "therefore", "however", "But", "Another",
)  # fmt: skip
"""The paper's: any case, but `But` and `Another` with a capital only."""
ALPHA = 0.7


@dataclass(frozen=True)
class Vocabulary:
    """Words of reasoning and the windows around them. Raises BadInput for fewer than two different words or a negative window."""

    words: tuple[str, ...] = WORDS
    before: int = 2
    """Tokens before an occurrence; the paper's second version. Its code for the first has 1 and 2."""
    after: int = 3
    alpha: float = ALPHA

    def __post_init__(self) -> None:
        words = tuple(" ".join(word.split()) for word in self.words)
        object.__setattr__(self, "words", words)
        if len(set(words)) < 2 or len(set(words)) < len(words) or not all(words):
            raise BadInput(f"ReasonScore needs at least two different words, none empty or twice; got {list(words)}.")
        if min(self.before, self.after) < 0:
            raise BadInput(
                f"A window of {self.before} tokens before and {self.after} after is not one; give 0 or more."
            )

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        found = []
        for word in self.words:
            body = r"\s+".join(map(re.escape, word.split(" ")))
            start, end = (
                r"(?<!\w)" if re.match(r"\w", word[0]) else "",
                r"(?!\w)" if re.match(r"\w", word[-1]) else "",
            )
            found.append(re.compile(f"{start}{body}{end}", re.IGNORECASE if word == word.lower() else 0))
        return tuple(found)

    def occurrences(self, model: LoadedModel, ids: Sequence[int]) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For every word, the tokens (start, end), end exclusive, that spell it in `ids`."""
        pieces = token_pieces(model, ids)
        text, starts = "".join(pieces), list(accumulate(map(len, pieces), initial=0))[:-1]

        def token(character: int) -> int:
            return bisect_right(starts, character) - 1

        return tuple(
            tuple((token(m.start()), token(m.end() - 1) + 1) for m in pattern.finditer(text))
            for pattern in self._patterns
        )

    def windows(self, model: LoadedModel, ids: Sequence[int]) -> Tensor:
        """`[words + 1, len(ids)]` float32: 1 where a token is in a window of each word, and in the last row of any."""
        found = torch.zeros(len(self.words) + 1, len(ids))
        for row, spans in enumerate(self.occurrences(model, ids)):
            for start, end in spans:
                found[row, max(0, start - self.before) : end + self.after] = 1.0
        found[-1] = found[:-1].amax(0)
        return found


def token_pieces(model: LoadedModel, ids: Sequence[int]) -> list[str]:
    """What each token adds to the text when it follows another, spaces included: they join to the text."""
    known: dict[int, str] = model.extra.setdefault("token_pieces", {})
    new = set(ids) - known.keys()
    if new:
        tokenizer = model.tokenizer
        special = set(tokenizer.all_special_ids)
        plain = (i for i in range(len(tokenizer)) if i not in special)
        anchor = next((i for i in plain if tokenizer.decode([i]).strip().isalnum()), min(new))
        before = tokenizer.decode([anchor], clean_up_tokenization_spaces=False)
        for token in new:
            both = tokenizer.decode([anchor, token], clean_up_tokenization_spaces=False)
            known[token] = both.removeprefix(before) if both.startswith(before) else tokenizer.decode([token])
    return [known[token] for token in ids]


def reason_scores(sums: Tensor, tokens: Tensor, norms: Tensor, alpha: float = ALPHA) -> tuple[Tensor, Tensor]:
    """(scores, entropies H) `[..., latents]` float64 from sums of activations.

    `sums [..., words + 2, latents]` and `tokens [..., words + 2]` are over the windows of each word, their union R, and all tokens;
    `norms [latents]` those of the decoder rows. NaN where fewer than two words occur, or no token is outside R.
    """
    sums = sums.double().clamp_min(0.0) * norms.double()  # differences of sums may round below 0
    tokens = tokens.double()
    occurs = tokens[..., :-2] > 0
    word = sums[..., :-2, :] / tokens[..., :-2, None].clamp_min(1.0)
    whole = word.sum(-2, keepdim=True)
    p = torch.where(whole > 0, word / whole, 0.0)
    count = occurs.sum(-1, keepdim=True)
    entropy = torch.special.entr(p).sum(-2) / count.double().log()
    inside = _shares(sums[..., -2, :], tokens[..., -2, None])
    outside = _shares(sums[..., -1, :] - sums[..., -2, :], tokens[..., -1, None] - tokens[..., -2, None])
    scores = torch.where(count > 1, inside * entropy**alpha - outside, torch.nan)
    return scores, entropy


def _shares(sums: Tensor, tokens: Tensor) -> Tensor:
    means = torch.where(tokens > 0, sums / tokens, torch.nan)
    whole = means.sum(-1, keepdim=True)
    return torch.where(whole == 0, 0.0, means / whole)


def reason_estimates(sums: Tensor, tokens: Tensor, norms: Tensor, vocabulary: Vocabulary) -> tuple[Estimates, Tensor]:
    """Scores with jackknife intervals, and entropies, from `sums [groups, words + 2, latents]` and `tokens [groups, words + 2]` as
    `reason_scores` takes them, per group of texts. Raises BadInput when fewer than two words occur, or all tokens are near one."""
    total, count = sums.sum(0), tokens.sum(0)
    present = [word for word, n in zip(vocabulary.words, count[:-2].tolist(), strict=True) if n]
    if len(present) < 2:
        raise BadInput(
            f"Of the words {', '.join(vocabulary.words)} the texts hold {present or 'none'}; ReasonScore needs two that occur. "
            f"Pass words that these texts use."
        )
    if count[-1] <= count[-2]:
        raise BadInput("Every token of the texts is near a word of reasoning, so there is nothing to compare with.")
    value, entropy = reason_scores(total, count, norms, vocabulary.alpha)
    without = torch.stack(
        [reason_scores(total - s, count - n, norms, vocabulary.alpha)[0] for s, n in zip(sums, tokens, strict=True)]
    )
    return jackknifed(value.numpy(), without.numpy()), entropy
