"""Training sentence autoencoders (Venhoff et al., 2510.07364, App. A and code), and whether seeds agree.

    L = Σ‖x - x̂‖² / Σ‖x - mean x‖²  over a batch of prepared vectors

1. Adam at 2e-4 / sqrt(n / 2^14), batches of 512, at most 300 epochs; the decoder starts as the encoder and its rows are brought back to
   norm 1 after every step.
2. Training stops when the loss on held-out vectors has not fallen for 10 epochs, and the best epoch is kept. (The authors' code watches
   the training loss.) The same seed gives the same weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from steering.errors import BadInput
from steering.model.sites import Site

from .sentences import SentenceSAE, prepare, top_k

BATCH, EPOCHS, PATIENCE = 512, 300, 10


def train_sentence_sae(
    vectors: Tensor,
    n: int,
    k: int = 3,
    seed: int = 0,
    *,
    mean: Tensor | None = None,
    site: Site | None = None,
    held_out: float = 0.1,
) -> SentenceSAE:
    """Train on raw sentence vectors `[sentences, width]`, centred by `mean` (that of the vectors by default; the paper's is
    `SentenceVectors.mean`). `held_out`: share of the vectors, drawn by `seed`, on which training is stopped.

    Raises BadInput when there are too few vectors, they hold NaN, or k does not fit n.
    """
    if not 0 < k <= n:
        raise BadInput(f"k {k} does not fit {n} categories.")
    if vectors.ndim != 2 or not torch.isfinite(vectors).all():
        raise BadInput(f"Finite sentence vectors of shape [sentences, width] are needed, not {list(vectors.shape)}.")
    aside = round(held_out * len(vectors))
    if aside < 2 or len(vectors) - aside < max(2, n):
        raise BadInput(f"{len(vectors)} vectors with {held_out:g} held out are too few for {n} categories.")
    mean = (vectors.double().mean(0) if mean is None else mean).float()
    generator = torch.Generator().manual_seed(seed)
    x = prepare(vectors, mean)[torch.randperm(len(vectors), generator=generator)]
    check, x = x[:aside], x[aside:]
    bound = 1 / math.sqrt(x.shape[1])  # torch's default for a linear layer, from this generator
    encoder = (torch.rand(n, x.shape[1], generator=generator) * 2 - 1) * bound
    start = (encoder, torch.zeros(n), _unit(encoder), torch.zeros(x.shape[1]))
    parameters = [value.clone().requires_grad_() for value in start]
    optimiser = torch.optim.Adam(parameters, lr=2e-4 / math.sqrt(n / 2**14))
    best, kept, waited, epochs = math.inf, [value.clone() for value in start], 0, 0
    for epoch in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=generator).split(min(BATCH, len(x))):
            if len(rows) < 2:
                continue  # one row has no variance to divide by
            optimiser.zero_grad()
            _loss(x[rows], parameters, k).backward()
            optimiser.step()
            with torch.no_grad():
                parameters[2].copy_(_unit(parameters[2]))
        with torch.no_grad():
            loss = float(_loss(check, parameters, k))
        if not math.isfinite(loss):
            raise BadInput(f"Training diverged in epoch {epoch}; are the vectors all alike?")
        epochs, waited = epoch + 1, waited + 1
        if loss < best:
            best, kept, waited = loss, [value.detach().clone() for value in parameters], 0
        if waited >= PATIENCE:
            break
    facts = {
        "method": "top-k autoencoder of sentence vectors (2510.07364)",
        "vectors": len(vectors),
        "held_out": aside,
        "held_out_loss": best,
        "epochs": epochs,
        "seed": seed,
    }
    encoder, bias, decoder, b_dec = kept
    return SentenceSAE(encoder, bias, decoder, b_dec, mean=mean, k=k, site=site, provenance=facts)


@dataclass(frozen=True)
class Stability:
    """Agreement of dictionaries trained from different seeds."""

    share: float
    """Of matched latents whose decoder rows have a cosine above the threshold, over all pairs of dictionaries."""
    cosine: float
    """Mean over matched latents."""
    lowest: float
    """Smallest share of a pair of dictionaries."""
    highest: float
    pairs: int
    threshold: float


def stability(saes: Sequence[SentenceSAE], threshold: float = 0.7) -> Stability:
    """Match the latents of every two dictionaries one to one by decoder cosine (Hungarian method; 2510.07364, Table 3: 93 % above 0.7).

    Raises BadInput for fewer than two dictionaries, or ones of different shapes.
    """
    if len(saes) < 2 or len({sae.decoder.shape for sae in saes}) != 1:
        raise BadInput("Stability compares at least two dictionaries of one size and width.")
    cosines = []
    for one, other in itertools.combinations(saes, 2):
        cosine = (_unit(one.decoder) @ _unit(other.decoder).T).numpy()
        rows, columns = linear_sum_assignment(-cosine)
        cosines.append(torch.from_numpy(cosine[rows, columns]))
    every = torch.stack(cosines).double()
    shares = (every > threshold).double().mean(1)
    return Stability(
        float(shares.mean()), float(every.mean()), float(shares.min()), float(shares.max()), len(cosines), threshold
    )


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def _loss(x: Tensor, parameters: Sequence[Tensor], k: int) -> Tensor:
    encoder, bias, decoder, b_dec = parameters
    found = top_k((x - b_dec) @ encoder.T + bias, k) @ decoder + b_dec
    return (found - x).square().sum() / (x - x.mean(0)).square().sum()
