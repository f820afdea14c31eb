"""Vectors trained by reinforcement: added to the stream, they make texts that a reward likes likelier (2505.18706, 2509.06608).

1. Rollouts are the engine's, with the vectors as an ordinary plan over the span: what is trained is what is applied. Their gradient comes
   from one forced pass over the same tokens, at the temperature at which they were drawn.
2. The loss of an update is GRPO's without a KL term: minus the sum, over texts and their tokens, of min(rho A, clip(rho) A), divided by the
   number of texts and by the token limit (2503.20783: no length in the divisor). A is a text's reward minus the mean of its group, divided
   by the group's deviation where `scale` asks for it. With one gradient step per batch rho is 1 and nothing is clipped.
3. What is trained is a vector per place, or one number along a direction that is given. Steps and norms are shares of the activation's norm
   there, so that they carry over to other models. Weights are left alone.
4. A state after each update goes on to the same numbers: draws depend on seed, update, prompt and sample alone.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..engine.generation import generate
from ..engine.record import Generation, Row
from ..engine.sampling import GenerationSettings
from ..errors import BadInput, unknown
from ..model.models import LoadedModel
from ..model.sites import Site
from ..plan.dose import Dose
from ..plan.plan import Intervention, Plan
from ..plan.span import Span
from ..vector.vectors import Provenance, SteeringVector
from .optimised import still
from .place import Place
from .policy import Rollout, logprobs, packed

Reward = Callable[[int, Generation], float]
"""Of the prompt's number in the pool and a text; finite."""
SCALES = ("none", "group")


@dataclass(frozen=True)
class Reinforcing:
    """How vectors are trained. Raises BadInput."""

    updates: int = 40
    """Batches of rollouts."""
    prompts: int = 16
    """Prompts per batch, drawn from the pool without repeats."""
    samples: int = 12
    """Texts per prompt: a group."""
    max_new_tokens: int = 256
    temperature: float = 1.0
    span: str = "all"
    rate: float = 0.25
    """Adam's step, as a share of the activation: a coordinate moves by that share of their root mean square, a number along a direction by
    that share of the norm."""
    reuse: int = 1
    """Gradient steps per batch of rollouts; above 1 the ratio is clipped."""
    clip: tuple[float, float] = (0.2, 0.28)
    """Below and above 1."""
    scale: Literal["none", "group"] = "none"
    shuffled: bool = False
    """Deal the rewards of each group out anew to its texts: as many of each, and of none. A control."""
    start_norm: float = 0.05
    """Norm of the random vector to start from, as a share of the activation's; a number along a direction starts at it."""
    seed: int = 0
    batch_size: int = 256

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise unknown("scale", self.scale, SCALES)
        for name in (
            "updates",
            "prompts",
            "max_new_tokens",
            "temperature",
            "rate",
            "reuse",
            "start_norm",
            "batch_size",
        ):
            if not getattr(self, name) > 0:
                raise BadInput(f"{name} {getattr(self, name)} must be above 0.")
        if self.samples < 2:
            raise BadInput(f"samples {self.samples}: a group needs at least 2 texts, whose rewards are compared.")
        if not (0 < self.clip[0] < 1 and self.clip[1] > 0):
            raise BadInput(f"clip {self.clip}: give two shares above 0, the first below 1, such as 0.2 and 0.28.")
        Span.parse(self.span)


@dataclass(frozen=True, eq=False)
class Reinforced:
    """Vectors after some updates: what is trained, Adam's moments, and the curve so far."""

    values: Mapping[Site, Tensor]
    """`[d_model]` per site, or `[1]` where a direction is given."""
    moments: Mapping[Site, tuple[Tensor, Tensor]]
    step: int = 0
    """Gradient steps taken."""
    curve: tuple[dict[str, float], ...] = field(default=())
    """Per update: mean reward, share of groups whose rewards differ, mean tokens, share of texts cut off, share of ratios clipped, tokens
    generated and trained on, norm of all vectors together."""


def begin(model: LoadedModel, places: Sequence[Place], spec: Reinforcing) -> Reinforced:
    """Before the first update. Raises BadInput for sites that the model lacks, none at all, or directions that do not fit."""
    sites = [place.site for place in places]
    if not sites or len(set(sites)) < len(sites):
        raise BadInput("Vectors are trained at one site or several different ones; name each once.")
    generator, values = torch.Generator().manual_seed(spec.seed), {}
    for place in sorted(places, key=lambda place: place.site.order):
        site = model.layout.check(place.site)
        if model.layout.width(site) != model.d_model:
            raise BadInput(
                f"{site} is not as wide as the stream; vectors are trained at sites such as blocks.0.hook_resid_post."
            )
        if place.direction is None:
            drawn = torch.randn(model.d_model, generator=generator)
            values[site] = drawn / drawn.norm() * spec.start_norm * math.sqrt(model.d_model)
        elif len(place.direction) != model.d_model:
            raise BadInput(
                f"{site}: the direction has {len(place.direction)} numbers, but the stream has {model.d_model}."
            )
        else:
            values[site] = torch.full((1,), spec.start_norm)
    return Reinforced(values, {site: (torch.zeros_like(v), torch.zeros_like(v)) for site, v in values.items()})


def reinforce(
    model: LoadedModel,
    pool: Sequence[tuple[int, ...]],
    reward: Reward,
    state: Reinforced,
    places: Sequence[Place],
    spec: Reinforcing,
) -> Iterator[Reinforced]:
    """The state after each update that is left. `pool` holds prompts as fed, with BOS; `places` are those of `begin`.

    Raises BadInput for a pool smaller than a batch, a reward or a gradient that is not finite.
    """
    if len(pool) < spec.prompts:
        raise BadInput(f"{len(pool)} prompts do not fill a batch of {spec.prompts}; give more, or smaller batches.")
    made = {place.site: place for place in places}
    for update in range(len(state.curve), spec.updates):
        chosen = random.Random(f"{spec.seed}/{update}").sample(range(len(pool)), spec.prompts)
        vectors = {site: made[site].vector(value) for site, value in state.values.items()}
        rows = [
            Row(pool[number], plan_of(model, vectors, spec.span), _seed(spec.seed, update, number, sample))
            for number in chosen
            for sample in range(spec.samples)
        ]
        settings = GenerationSettings(spec.max_new_tokens, temperature=spec.temperature)
        texts = generate(model, rows, settings, batch_size=spec.batch_size, detail="tokens")
        numbers = [number for number in chosen for _ in range(spec.samples)]
        rewards = np.array(
            [reward(number, text) for number, text in zip(numbers, texts, strict=True)], dtype=np.float64
        )
        if not np.isfinite(rewards).all():
            raise BadInput(f"Update {update}: a reward is not finite ({rewards[~np.isfinite(rewards)][0]}).")
        dealt = _dealt(rewards, spec, update) if spec.shuffled else rewards
        state, clipped, trained = _updated(model, texts, advantages(dealt, spec), state, made, spec)
        lengths = np.array([len(text.token_ids) for text in texts])
        groups = rewards.reshape(-1, spec.samples)
        state = Reinforced(
            state.values,
            state.moments,
            state.step,
            (
                *state.curve,
                {
                    "reward": float(rewards.mean()),
                    "groups": float((groups.std(1) > 0).mean()),
                    "tokens": float(lengths.mean()),
                    "cut": float(np.mean([text.finish == "length" for text in texts])),
                    "clipped": clipped,
                    "generated": int(lengths.sum()),
                    "trained": trained,
                    "norm": float(torch.cat([made[s].vector(v) for s, v in state.values.items()]).norm()),
                },
            ),
        )
        yield state


def _dealt(rewards: np.ndarray, spec: Reinforcing, update: int) -> np.ndarray:
    rng = np.random.default_rng([spec.seed, update])
    return np.concatenate([rng.permutation(group) for group in rewards.reshape(-1, spec.samples)])


def advantages(rewards: np.ndarray, spec: Reinforcing) -> np.ndarray:
    """Per row: reward minus the mean of its group, over the group's deviation where `scale` is `group`."""
    groups = rewards.reshape(-1, spec.samples)
    own = groups - groups.mean(1, keepdims=True)
    if spec.scale == "group":
        own = own / (groups.std(1, keepdims=True, ddof=1) + 1e-4)
    return np.asarray(own.reshape(-1))


def plan_of(model: LoadedModel, vectors: Mapping[Site, Tensor], span: str) -> Plan:
    """The vectors as an ordinary plan."""
    whence = Provenance("reinforced", model.fingerprint, model.id)
    return Plan(
        tuple(
            Intervention("add", SteeringVector("reinforced", site, v, whence), Span.parse(span), Dose(1.0, "vector"))
            for site, v in vectors.items()
        )
    )


def policy_loss(own: Tensor, old: Tensor, advantage: Tensor, spec: Reinforcing) -> tuple[Tensor, Tensor]:
    """Summed over tokens: the clipped loss (a scalar), and which ratios were clipped. All `[tokens]`; `own` and `old` in nats."""
    ratio = (own - old).exp()
    low, high = 1 - spec.clip[0], 1 + spec.clip[1]
    held = torch.minimum(ratio * advantage, ratio.clamp(low, high) * advantage)
    bound = ((ratio > high) & (advantage > 0)) | ((ratio < low) & (advantage < 0))
    return -held.sum(), bound


@torch.inference_mode(False)
@torch.enable_grad()
def _updated(
    model: LoadedModel,
    texts: Sequence[Generation],
    gains: np.ndarray,
    state: Reinforced,
    made: Mapping[Site, Place],
    spec: Reinforcing,
) -> tuple[Reinforced, float, int]:
    """One batch of rollouts: `reuse` gradient steps; also the share of ratios clipped and the tokens trained on."""
    used = [n for n, text in enumerate(texts) if gains[n] != 0 and text.token_ids and text.finish != "nonfinite"]
    if not used:  # every group is all right or all wrong: nothing to learn from
        return state, 0.0, 0
    batches = packed(model, [Rollout(texts[n].prompt_ids, texts[n].token_ids) for n in used], Span.parse(spec.span))
    values = {site: value.clone().to(model.device).requires_grad_() for site, value in state.values.items()}
    optimiser = torch.optim.Adam(list(values.values()), lr=spec.rate)
    for site, value in values.items() if state.step else ():
        one, two = (moment.to(value, copy=True) for moment in state.moments[site])
        optimiser.state[value] = {"step": torch.tensor(float(state.step)), "exp_avg": one, "exp_avg_sq": two}
    scale = 1.0 / (len(texts) * spec.max_new_tokens)
    old: dict[int, Tensor] = {}
    clipped, looked = 0, 0
    with still(model):
        for _ in range(spec.reuse):
            total = {site: torch.zeros_like(value) for site, value in values.items()}
            for number, batch in enumerate(batches):
                vectors = {site: made[site].vector(value) for site, value in values.items()}
                own = logprobs(model, batch, vectors, spec.temperature)
                before = old.setdefault(number, own.detach())
                gain = torch.tensor(gains[[used[n] for n in batch.texts]], dtype=own.dtype, device=own.device)
                loss, bound = policy_loss(own, before, gain[batch.of], spec)
                found = torch.autograd.grad(scale * loss, list(values.values()))
                for site, gradient in zip(total, found, strict=True):
                    total[site] += gradient
                clipped, looked = clipped + int(bound.sum()), looked + len(bound)
            for (site, value), gradient in zip(values.items(), total.values(), strict=True):
                if not torch.isfinite(gradient).all():
                    raise BadInput(f"The gradient at {site} is not finite; lower the rate or start_norm.")
                value.grad = gradient
            optimiser.step()
    tokens = sum(len(texts[n].token_ids) for n in used) * spec.reuse
    kept = {site: value.detach().cpu() for site, value in values.items()}
    moments = {
        site: tuple(optimiser.state[v][name].cpu() for name in ("exp_avg", "exp_avg_sq")) for site, v in values.items()
    }
    return Reinforced(kept, moments, state.step + spec.reuse, state.curve), clipped / looked, tokens


def reinforced_vectors(
    model: LoadedModel,
    state: Reinforced,
    places: Sequence[Place],
    spec: Reinforcing,
    name: str = "reinforced",
    **notes: Any,
) -> list[SteeringVector]:
    """The vectors as they are, with how they came to be; one per site, in forward order."""
    made = {place.site: place for place in places}
    sizes = {str(site): place.size for site, place in made.items()}
    rewards = [row["reward"] for row in state.curve]
    facts = {"updates": len(state.curve), "rewards": rewards, "sizes": sizes, **asdict(spec), **notes}
    number = any(place.direction is not None for place in places)
    what = "a number along a given direction" if number else "a vector"
    contrast = f"{what} at each of {len(places)} sites, trained while it was added over {spec.span}"
    whence = Provenance(
        "reinforced",
        model.fingerprint,
        model.id,
        contrast=contrast,
        counts=(int(sum(row["generated"] for row in state.curve)),),
        notes=facts,
    )
    return [
        SteeringVector(
            f"{name}, layer {site.layer}" if len(places) > 1 else name, site, made[site].vector(value), whence
        )
        for site, value in state.values.items()
    ]


def _seed(*facts: int) -> int:
    return int.from_bytes(hashlib.sha256("/".join(map(str, facts)).encode()).digest()[:7])
