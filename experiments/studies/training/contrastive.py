"""Weights trained without reward learning: right texts against wrong ones of the base's own, at the tokens that fork (2605.06241).

1. Texts are sampled from the base once. Questions of middle difficulty give pairs of a right and a wrong text.
2. The loss of a pair is -log sigmoid(beta (S(right) - S(wrong))), with S the sum, over the chosen tokens of a text, of log p - log p of the
   base; over the other tokens stands KL(base || model) with a weight, in nats per token.
3. Chosen are the tokens whose entropy under the base is among the highest share of all texts, or, as a control, as many drawn ones.
4. A low-rank adapter on every linear layer is trained, and merged.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from steering.engine.record import Generation
from steering.errors import BadInput
from steering.extraction.policy import Packed, Rollout, packed
from steering.model.gradients import differentiable
from steering.model.models import LoadedModel, wrap
from steering.plan.span import Span


@dataclass(frozen=True)
class Contrasting:
    """How it is trained. Raises BadInput."""

    steps: int = 20
    pairs: int = 16
    """Per step."""
    rate: float = 2e-3
    """Adam's step."""
    beta: float = 0.1
    anchor: float = 1.0
    """Weight of the KL term."""
    rank: int = 8
    """Of the adapter."""
    share: float = 0.2
    """Of the tokens that are chosen."""
    where: Literal["top", "random"] = "top"
    low: float = 0.1
    high: float = 0.9
    """Shares of right texts between which a question is of middle difficulty."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "pairs", "rate", "beta", "rank"):
            if not getattr(self, name) > 0:
                raise BadInput(f"{name} {getattr(self, name)} must be above 0.")
        if not 0 < self.share < 1:
            raise BadInput(f"share {self.share:g}: give a share of the tokens above 0 and below 1, such as 0.2.")


def pairs_of(verdicts: Sequence[Sequence[bool | None]], spec: Contrasting) -> list[tuple[int, int, int]]:
    """Question, right text and wrong text, in random order; `verdicts` holds those of every question's texts, None where one is not used.
    A question gives as many pairs as it has right or wrong texts, whichever are fewer."""
    rng, found = random.Random(f"pairs/{spec.seed}"), []
    for question, own in enumerate(verdicts):
        right = [place for place, verdict in enumerate(own) if verdict is True]
        wrong = [place for place, verdict in enumerate(own) if verdict is False]
        used = len(right) + len(wrong)
        if not used or not spec.low <= len(right) / used <= spec.high:
            continue
        rng.shuffle(right)
        rng.shuffle(wrong)
        found += [(question, a, b) for a, b in zip(right, wrong, strict=False)]
    rng.shuffle(found)
    return found


@torch.no_grad()
def chosen_tokens(
    base: LoadedModel, texts: Sequence[Generation], spec: Contrasting
) -> tuple[list[Tensor], list[Tensor], float]:
    """Per text which tokens bear the contrast, `[tokens]` boolean, and the base's log-probabilities `[tokens, vocabulary]`; and the entropy
    in nats from which a token is chosen."""
    before: list[Tensor] = [torch.empty(0)] * len(texts)
    for batch in packed(base, _rollouts(texts), Span.parse("all")):
        told = _predicted(base, batch)
        for row, number in enumerate(batch.texts):
            before[number] = told[batch.of == row].cpu()
    entropy = [-(own.exp() * own).sum(-1) for own in before]
    every = torch.cat(entropy)
    count = max(1, round(spec.share * len(every)))
    least = float(torch.topk(every, count).values[-1])
    if spec.where == "top":
        return [own >= least for own in entropy], before, least
    flat = torch.zeros(len(every), dtype=torch.bool)
    flat[torch.randperm(len(every), generator=torch.Generator().manual_seed(spec.seed))[:count]] = True
    return list(flat.split([len(own) for own in entropy])), before, least


def train_contrastive(
    base: LoadedModel,
    texts: Sequence[Generation],
    pairs: Sequence[tuple[int, int]],
    spec: Contrasting,
    report: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """The weights, by the names of `named_parameters`, and the curve by step. `pairs` name a right and a wrong text by number.

    Raises BadInput where there is no pair, and where the loss is not finite.
    """
    from peft import LoraConfig, get_peft_model

    if not pairs:
        raise BadInput("No question has right and wrong texts; sample more, or of questions of middle difficulty.")
    chosen, before, _ = chosen_tokens(base, texts, spec)
    torch.manual_seed(spec.seed)
    adapted = get_peft_model(
        copy.deepcopy(base.model), LoraConfig(r=spec.rank, lora_alpha=2 * spec.rank, target_modules="all-linear")
    )
    model = wrap(adapted, base.tokenizer, base.id, probe=False)
    asking = [p for p in adapted.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(asking, lr=spec.rate)
    curve = []
    for step in range(spec.steps):
        at = [pairs[(step * spec.pairs + place) % len(pairs)] for place in range(spec.pairs)]
        numbers = sorted({number for pair in at for number in pair})
        scores, drift, count = _scores(model, texts, numbers, chosen, before)
        margins = torch.stack([scores[right] - scores[wrong] for right, wrong in at])
        loss = -torch.nn.functional.logsigmoid(spec.beta * margins).mean() + spec.anchor * drift
        if not torch.isfinite(loss):
            raise BadInput(f"Step {step}: the loss is not finite; lower the rate ({spec.rate:g}).")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curve.append(
            {
                "loss": float(loss.detach()),
                "margin": float(margins.detach().mean()),
                "kl": float(drift.detach()),
                "tokens": count,
            }
        )
        if report is not None:
            report(step + 1, spec.steps)
    merged = adapted.merge_and_unload()
    own = dict(base.model.named_parameters())
    return {n: v.detach().cpu().contiguous().clone() for n, v in merged.named_parameters() if n in own}, curve


def _scores(
    model: LoadedModel,
    texts: Sequence[Generation],
    numbers: Sequence[int],
    chosen: Sequence[Tensor],
    before: Sequence[Tensor],
) -> tuple[dict[int, Tensor], Tensor, int]:
    """S of each text, mean KL over the tokens that are not chosen, and how many tokens were read."""
    scores: dict[int, Tensor] = {}
    drift, others, read = torch.zeros(()), 0, 0
    for batch in packed(model, _rollouts([texts[number] for number in numbers]), Span.parse("all")):
        told = _predicted(model, batch)
        own = told.gather(-1, batch.written[:, None])[:, 0]
        for row, place in enumerate(batch.texts):
            number, mine = numbers[place], batch.of == row
            was, mark = before[number].to(told), chosen[number].to(told.device)
            written = was.gather(-1, batch.written[mine][:, None])[:, 0]
            scores[number] = ((own[mine] - written) * mark).sum()
            moved = (was.exp() * (was - told[mine])).sum(-1)
            drift = drift.to(told) + (moved * ~mark).sum()
            others, read = others + int((~mark).sum()), read + len(written)
    return scores, drift / max(1, others), read


def _rollouts(texts: Sequence[Generation]) -> list[Rollout]:
    return [Rollout(text.prompt_ids, text.token_ids) for text in texts]


def _predicted(model: LoadedModel, batch: Packed) -> Tensor:
    """Log-probabilities at every written token, `[tokens, vocabulary]`."""
    with differentiable(model) as run:
        logits = run(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits[batch.place]
    return logits.float().log_softmax(-1)  # type: ignore[no-any-return]
