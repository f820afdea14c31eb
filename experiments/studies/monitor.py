"""What a model's activations hold along a text, without steering: projections on vectors, probabilities of probes, activations of latents.

1. A value at a token is read from the activation at that token's own position, once the token has been read. A gate of the same kind
   (`projection(v) > c`, `probe(w) > c`) compares this number with c.
2. Means and largest tokens leave a model's attention sinks out, whose activation says little of the text, and that is said; their values
   are there.
3. What was read on another model than the vector's, the probe's or the autoencoder's own is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from probes.probe import Probe
from saes.dictionary import Dictionary
from steering.compile.origin import origin
from steering.errors import BadInput
from steering.model.capture import capture
from steering.model.models import LoadedModel
from steering.model.prompts import token_texts, unknown_in
from steering.model.sinks import sinks_of
from steering.model.sites import Site
from steering.vector.vectors import SteeringVector


@dataclass(frozen=True)
class Watched:
    """One series along a text."""

    name: str
    kind: str
    """`projection` (h·v/‖v‖, in units of the activation), `probe` (probability of the second class), or `latent` (activation)."""
    site: str
    values: tuple[float, ...]
    """Per token."""
    remark: str = ""
    """What to know before it is read: another model's, or of unknown origin."""
    sinks: tuple[int, ...] = ()
    """Positions that means and largest tokens leave out."""

    @property
    def places(self) -> list[int]:
        """Tokens that are no sinks, largest first; all where there are no others."""
        kept = [place for place in range(len(self.values)) if place not in self.sinks] or list(range(len(self.values)))
        return sorted(kept, key=lambda place: -self.values[place])

    @property
    def largest(self) -> int:
        """The token where it is largest."""
        return self.places[0]

    @property
    def mean(self) -> float:
        """Over those tokens."""
        return sum(self.values[place] for place in self.places) / len(self.places)


@dataclass(frozen=True)
class Monitored:
    """A text as it was read, and what was watched along it."""

    model: str
    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    series: tuple[Watched, ...]
    remarks: tuple[str, ...]
    strongest: tuple[tuple[tuple[int, float], ...], ...] = ()
    """Per token, latents with their activations, strongest first, where they were asked for; silent ones are left out."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "model": self.model, "token_ids": list(self.token_ids), "tokens": list(self.tokens),
            "series": [
                vars(one) | {"values": list(one.values), "sinks": list(one.sinks), "mean": one.mean, "largest": one.largest}
                for one in self.series
            ],
            "remarks": list(self.remarks),
            "strongest": [[list(one) for one in token] for token in self.strongest],
        }  # fmt: skip


def monitor(
    model: LoadedModel,
    token_ids: Sequence[int],
    vectors: Sequence[SteeringVector] = (),
    probes: Sequence[Probe] = (),
    dictionary: Dictionary | None = None,
    latents: Sequence[int] = (),
    text: str = "",
    strongest: int = 0,
) -> Monitored:
    """Read a text once and watch all of these along it; `text` is how it was written, where that is known. With `strongest`,
    that many latents of the autoencoder are named at every token, those that are most active there.

    Raises BadInput for nothing to watch, a text that is empty or longer than the context, a vector or a probe that does not fit the
    model, a latent that is none, and for activations that are not finite.
    """
    if not vectors and not probes and not latents and not strongest:
        raise BadInput("There is nothing to watch: give a vector, a probe, or latents of an autoencoder.")
    if (latents or strongest) and dictionary is None:
        raise BadInput("Latents are those of an autoencoder; name it too.")
    known = model.model.get_input_embeddings().num_embeddings
    if odd := [token for token in token_ids if not 0 <= token < known]:
        raise BadInput(
            f"Token {odd[0]} is none of {model.id}'s {known}: the text was written by another model; name that one."
        )
    for vector in vectors:
        width = model.layout.width(model.layout.check(vector.site))
        if vector.direction.numel() != width:
            raise BadInput(
                f"Vector {vector.name} has width {vector.direction.numel()}; {model.id} has {width} at {vector.site}."
            )
    for probe in probes:
        probe.check(model)
    if dictionary is not None:
        dictionary.check(model)
        if none := [number for number in latents if not 0 <= number < dictionary.latents]:
            raise BadInput(f"Latent {none[0]} does not exist: the autoencoder has 0 to {dictionary.latents - 1}.")
    sites = [
        *(v.site for v in vectors),
        *(p.site for p in probes),
        *([dictionary.site] if dictionary and (latents or strongest) else []),
    ]
    sites = list(dict.fromkeys(sites))
    held = _read(model, token_ids, sites)
    series = [_projection(model, vector, held[vector.site]) for vector in vectors]
    series += [_probability(probe, held[probe.site]) for probe in probes]
    if dictionary is not None and latents:
        found = dictionary.encode(held[dictionary.site]).cpu()
        remark = dictionary.origin(model) or ""
        series += [
            Watched(f"latent {number}", "latent", str(dictionary.site), _row(found[:, number]), remark)
            for number in latents
        ]
    named: tuple[tuple[tuple[int, float], ...], ...] = ()
    if dictionary is not None and strongest:
        named = strongest_of(dictionary.encode(held[dictionary.site]).cpu(), strongest)
    sinks, remarks = sinks_of(model), []
    left = tuple(place for place in sinks.positions if place < len(token_ids))
    if left and len(left) < len(token_ids) and series:
        series = [replace(one, sinks=left) for one in series]
        remarks.append(sinks.sentence(model.id, "A mean, or a largest token,"))
    unknown = unknown_in(model, text or model.tokenizer.decode(list(token_ids)))
    return Monitored(
        model.id, tuple(int(t) for t in token_ids), tuple(token_texts(model, list(token_ids))), tuple(series),
        (*((unknown.sentence(model.id),) if unknown else ()), *remarks), named,
    )  # fmt: skip


def strongest_of(active: Tensor, count: int) -> tuple[tuple[tuple[int, float], ...], ...]:
    """Per token of `active [tokens, latents]`, the most active latents."""
    if not bool(active.isfinite().all()):
        raise BadInput("A latent's activation along the text is not finite; load the model in float32.")
    found = active.topk(min(count, active.shape[1]), dim=-1)
    return tuple(
        tuple((int(n), float(a)) for n, a in zip(numbers, values, strict=True) if a > 0)
        for numbers, values in zip(found.indices.tolist(), found.values.tolist(), strict=True)
    )


def _read(model: LoadedModel, token_ids: Sequence[int], sites: Sequence[Site]) -> dict[Site, Tensor]:
    """Activations `[tokens, width]` float32 at every site."""
    (captured,) = capture(model, [list(token_ids)], sites)
    held = {site: captured.values[site][0, : len(token_ids)].float().cpu() for site in sites}
    for site, values in held.items():
        if not bool(values.isfinite().all()):
            place = int((~values.isfinite()).any(-1).nonzero()[0])
            raise BadInput(f"The activation at {site} is not finite at token {place}; load the model in float32.")
    return held


def _projection(model: LoadedModel, vector: SteeringVector, h: Tensor) -> Watched:
    unit = vector.direction.float() / vector.direction.float().norm()
    remark = origin(f"Vector {vector.name}", vector.provenance, model) or ""
    return Watched(vector.name, "projection", str(vector.site), _row(h @ unit), remark)


def _probability(probe: Probe, h: Tensor) -> Watched:
    if len(probe.classes) != 2:
        raise BadInput(
            f"The probe tells {len(probe.classes)} classes apart; one of two classes has a probability to watch."
        )
    with torch.inference_mode():
        values = probe.probabilities(h)[:, 1]
    said = f"{probe.provenance.target or 'probe'}: {probe.classes[1]}"
    return Watched(said, "probe", str(probe.site), _row(values))


def _row(values: Tensor) -> tuple[float, ...]:
    found = tuple(float(value) for value in values)
    if not all(map(math.isfinite, found)):
        raise BadInput("A value along the text is not finite; load the model in float32.")
    return found
