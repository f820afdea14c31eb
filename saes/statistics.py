"""How often and how strongly each latent is active on a corpus: what doses in peaks, mean ablation and matched controls are made from.

1. One pass; memory does not grow with the corpus. Special tokens are not counted.
2. Stored beside the autoencoder as safetensors, with the digest of the autoencoder that was read: numbers of another one are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from steering.errors import BadInput
from steering.model.models import LoadedModel
from steering.vector.features import Features
from steering.vector.vectors import write_tensors

from .corpus import Text, encoded
from .dictionary import Dictionary

FORMAT = "steering-workbench/latent-statistics@1"
STATISTICS = "statistics.safetensors"


@dataclass(frozen=True, eq=False)
class LatentStatistics:
    """Per latent, `[latents]` float32, over `tokens` tokens."""

    density: Tensor
    """Share of the tokens on which it is active."""
    mean: Tensor
    """Mean activation, silent tokens included."""
    peak: Tensor
    """Largest activation."""
    sizes: Tensor
    """Mean activation where active times the norm of the decoder row: how much of the residual stream it carries, 0 for a dead one."""
    tokens: int
    dictionary: str
    """Digest of the autoencoder."""

    @property
    def alive(self) -> Tensor:
        """`[latents]` bool: active at least once."""
        return self.density > 0

    def features(self, dictionary: Dictionary, latents: Sequence[int], name: str = "") -> Features:
        """Chosen latents with their peaks and means, ready for plans. Raises BadInput for statistics of another autoencoder."""
        self.check(dictionary)
        index = torch.tensor(list(latents), dtype=torch.long)
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < dictionary.latents:
            raise BadInput(
                f"Latents {list(latents)} are not all among 0 to {dictionary.latents - 1} of {dictionary.name}."
            )
        return dictionary.features(latents, peaks=self.peak[index], means=self.mean[index], name=name)

    def check(self, dictionary: Dictionary) -> None:
        """Raises BadInput when these are the statistics of another autoencoder."""
        if self.dictionary != dictionary.digest:
            raise BadInput(
                f"These statistics were read through autoencoder {self.dictionary}, not {dictionary.name} ({dictionary.digest}); "
                f"read them again with latent_statistics."
            )

    def save(self, path: Path | str) -> Path:
        """Write atomically."""
        tensors = {n: getattr(self, n).contiguous() for n in ("density", "mean", "peak", "sizes")}
        return write_tensors(
            path, tensors, {"format": FORMAT, "tokens": str(self.tokens), "dictionary": self.dictionary}
        )

    @staticmethod
    def load(path: Path | str) -> LatentStatistics:
        """Raises BadInput for anything but a whole file of this format."""
        path = Path(path)
        if not path.is_file():
            raise BadInput(f"No latent statistics at {path}.")
        try:
            with safe_open(path, "pt") as handle:
                facts = handle.metadata() or {}
                if facts.get("format") != FORMAT:
                    raise BadInput(f"{path} does not hold latent statistics: its metadata lacks format {FORMAT!r}.")
                tensors = {name: handle.get_tensor(name) for name in handle.keys()}
            return LatentStatistics(**tensors, tokens=int(facts["tokens"]), dictionary=facts["dictionary"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, BadInput):
                raise
            raise BadInput(f"{path} is corrupt or cut short ({error}); read the statistics again.") from error


def latent_statistics(
    model: LoadedModel, dictionary: Dictionary, texts: Sequence[Text], *, batch_size: int = 16
) -> LatentStatistics:
    """Read `texts` once. Raises BadInput as `encoded`, or when they hold special tokens only."""
    n = dictionary.latents
    active, total = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    peak, tokens = torch.zeros(n), 0
    for batch in encoded(model, dictionary, texts, batch_size=batch_size):
        z = batch.latents[batch.mask]
        if not len(z):
            continue
        tokens += len(z)
        active += (z > 0).sum(0)
        total += z.double().sum(0)
        peak = torch.maximum(peak, z.amax(0))
    if not tokens:
        raise BadInput("The texts hold special tokens only; there is nothing to read.")
    strength = torch.where(active > 0, total / active.clamp_min(1), 0.0).float() * dictionary.norms
    return LatentStatistics(
        (active / tokens).float(), (total / tokens).float(), peak, strength, tokens, dictionary.digest
    )


def matched(
    statistics: LatentStatistics, latent: int, n: int, *, exclude: Sequence[int] = (), seed: int = 0, pool: int = 4
) -> tuple[int, ...]:
    """`n` live latents drawn from the `pool * n` nearest to `latent` in (log density, log size): controls matched on density and norm.

    Raises BadInput when fewer live latents are left.
    """
    place = torch.stack([statistics.density.clamp_min(1e-12).log(), statistics.sizes.clamp_min(1e-12).log()], dim=1)
    distance = (place - place[latent]).norm(dim=1)
    usable = statistics.alive.clone()
    usable[[latent, *exclude]] = False
    if int(usable.sum()) < n:
        raise BadInput(f"{n} matched controls asked for, but only {int(usable.sum())} other latents are ever active.")
    distance[~usable] = float("inf")
    near = distance.argsort(stable=True)[: min(pool * n, int(usable.sum()))]
    drawn = torch.randperm(len(near), generator=torch.Generator().manual_seed(seed * 1_000_003 + latent))[:n]
    return tuple(int(near[i]) for i in sorted(drawn.tolist()))
