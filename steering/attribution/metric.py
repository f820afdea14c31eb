"""What is asked of a model when a direction is put into it: one number per row, from the logits at a few positions.

1. `log_odds`: ln P(S) - ln P(not S) of the next token, S being the tokens that begin a behaviour. In logits z it is
   logsumexp(z_S) - logsumexp(z_rest): whatever shifts all logits alike cancels, and it does not level off as P(S) nears 0 or 1.
2. `continuation`: the log-probability of a text that is to follow, sum over its tokens of ln P(token | what is before it).
3. `divergence`: KL(p0 || p) of the next token, p0 being the model's own distribution with nothing put in. At that point it has
   its minimum, so its gradient is zero for every direction, layer and position: it has no first-order effect. What is left is its
   second-order form ½ d² · Var_p0(J u), J u being the change of the logits per unit of the direction u and d the dose
   (`curvature`). It says how much a direction moves the prediction, not whether towards a behaviour.
4. `distance`: the Jensen-Shannon divergence in bits, mean over positions, from what the model predicts on another sequence of as many
   tokens; 0 where something that is put in makes it predict the same.
5. A metric names the sequences that are run and the positions whose logits it reads, so that effects are measured where they
   are asked for. All but `distance` are in nats.

Source: attribution patching of behaviours, Venhoff et al. 2506.18167, section 4; its metric is a KL divergence of the model
with itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BadInput
from ..model.divergence import jensen_shannon
from ..model.models import LoadedModel

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Metric:
    """One number per row."""

    name: str
    sequences: tuple[Tokens, ...]
    """What is run, one sequence per row, with its BOS."""
    prompts: tuple[int, ...]
    """Length of each row's prompt: positions count from its end when negative."""
    reads: tuple[tuple[int, ...], ...]
    """Positions of each row whose logits are read."""
    value: Callable[[Tensor, int], Tensor]
    """Of float logits `[reads, vocabulary]` and the row's number; a scalar."""
    first_order: bool = True
    """Whether it has a gradient where nothing is put in."""

    def check(self, model: LoadedModel) -> None:
        """Raises BadInput for a sequence that is empty or longer than the model's context."""
        for row, sequence in enumerate(self.sequences):
            if not 0 < len(sequence) <= model.context:
                raise BadInput(f"Row {row} has {len(sequence)} tokens; {model.id} reads 1 to {model.context}.")


def log_odds(prompts: Sequence[Sequence[int]], tokens: Sequence[int]) -> Metric:
    """ln P(next token in `tokens`) - ln P(any other), in nats, after each prompt. Raises BadInput without prompts or tokens."""
    wanted = sorted(set(map(int, tokens)))
    if not wanted:
        raise BadInput("log_odds needs at least one token whose odds are asked for.")
    sequences = _prompts(prompts)

    def value(logits: Tensor, row: int) -> Tensor:
        if wanted[-1] >= logits.shape[-1] or len(wanted) == logits.shape[-1]:
            raise BadInput(f"Tokens {wanted[:8]} are not part of a vocabulary of {logits.shape[-1]} that holds others.")
        inside = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
        inside[wanted] = True
        return logits[-1][inside].logsumexp(-1) - logits[-1][~inside].logsumexp(-1)

    return Metric("log odds", sequences, tuple(map(len, sequences)), tuple((len(s) - 1,) for s in sequences), value)


def continuation(prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]) -> Metric:
    """Log-probability in nats of each prompt's continuation. Raises BadInput for an empty one, or other numbers of them."""
    given = _prompts(prompts)
    if len(continuations) != len(given) or not all(continuations):
        raise BadInput(
            f"{len(given)} prompts need as many continuations of at least one token, not {len(continuations)}."
        )
    texts = [tuple(map(int, text)) for text in continuations]
    sequences = tuple((*prompt, *text[:-1]) for prompt, text in zip(given, texts, strict=True))
    reads = tuple(tuple(range(len(p) - 1, len(p) - 1 + len(t))) for p, t in zip(given, texts, strict=True))

    def value(logits: Tensor, row: int) -> Tensor:
        ids = torch.tensor(texts[row], device=logits.device)
        return logits.log_softmax(-1).gather(1, ids[:, None]).sum()

    return Metric("log-probability of the continuation", sequences, tuple(map(len, given)), reads, value)


def divergence(model: LoadedModel, prompts: Sequence[Sequence[int]]) -> Metric:
    """KL in nats of the next token's distribution from the model's own after each prompt; for exact patching only."""
    sequences = _prompts(prompts)
    own: list[Tensor] = []
    with torch.inference_mode():
        for sequence in sequences:
            ids = torch.tensor([sequence], device=model.device)
            own.append(model.model(input_ids=ids, use_cache=False).logits[0, -1].float().log_softmax(-1))

    def value(logits: Tensor, row: int) -> Tensor:
        before = own[row].to(logits.device)
        return (before.exp() * (before - logits[-1].log_softmax(-1))).sum()

    reads = tuple((len(s) - 1,) for s in sequences)
    return Metric("KL from unpatched", sequences, tuple(map(len, sequences)), reads, value, first_order=False)


def distance(model: LoadedModel, sequence: Sequence[int], other: Sequence[int], reads: Sequence[int]) -> Metric:
    """Jensen-Shannon divergence in bits of the predictions after `sequence` at positions `reads` from the model's own after `other` there,
    mean over the positions; for exact patching only. Raises BadInput for sequences of unequal length, or no position inside them."""
    if not sequence or len(sequence) != len(other) or not reads or not all(0 <= p < len(other) for p in reads):
        raise BadInput(
            f"Two sequences of as many tokens are compared at positions inside them; these have {len(sequence)} and {len(other)}, and the "
            f"positions are {list(reads)[:8]}."
        )
    (one, two), places = _prompts([sequence, other]), tuple(reads)
    with torch.inference_mode():
        logits = model.model(input_ids=torch.tensor([two], device=model.device), use_cache=False).logits
        own = logits[0, list(places)].double().log_softmax(-1)

    def value(logits: Tensor, row: int) -> Tensor:
        return jensen_shannon(logits.double().log_softmax(-1), own.to(logits.device)).mean()

    return Metric("JSD from the other text", (one,), (len(one),), (places,), value, first_order=False)


def curvature(before: Tensor, after: Tensor) -> Tensor:
    """Second-order KL `[...]` of a change of logits `[..., vocabulary]`: half the variance of the change under the distribution before."""
    p, change = before.softmax(-1), after - before
    return 0.5 * ((p * change**2).sum(-1) - (p * change).sum(-1) ** 2)


def _prompts(prompts: Sequence[Sequence[int]]) -> tuple[Tokens, ...]:
    found = tuple(tuple(map(int, prompt)) for prompt in prompts)
    if not found or not all(found):
        raise BadInput("A metric needs at least one prompt, and a token in each.")
    return found
