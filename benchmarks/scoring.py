"""What scoring an autoencoder costs: one pass of `saes.scores` over a corpus, against the bare forward pass up to the same layer.

Bare passes and scored batches take turns, so that a drift of the machine meets both. `python -m benchmarks.scoring --tokens 1000000`.
"""

from __future__ import annotations

import random
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from sae_lens import StandardSAE, StandardSAEConfig

from saes.corpus import LabelledSpan, Text, encoded
from saes.dictionary import Dictionary
from saes.reason_score import Vocabulary
from saes.scores import ScorePass
from steering.model.models import LoadedModel, load_model
from steering.model.sites import Site

from .capture import _forward_to
from .workloads import SIZES, prompts, save_model

LENGTH, BATCH, WARM = 128, 16, 3
LABELS = ("proposing", "computing", "checking", "doubting")
WORDS = tuple(f"t{word}" for word in range(20, 30))


@dataclass(frozen=True)
class ScoringCost:
    """Times are medians over batches."""

    tokens: int
    tokens_per_second: float
    """Of the whole pass: reading, encoding, gathering and the final statistics."""
    bare_tokens_per_second: float
    """Of the forward pass that stops after the layer."""
    ratio: float
    """A scored batch over the bare pass before or after it."""
    ratio_range: tuple[float, float]
    """Its quartiles."""
    gathering: float
    """What is done with latents once they are read, over the bare pass."""
    finish_seconds: float
    """The final statistics, once."""
    growth_mib: float
    """Growth of the process's peak between the first tenth of the tokens and the last."""
    finish_mib: float
    """Further growth during the final statistics."""


def scored_texts(tokens: int, vocabulary: int, length: int = LENGTH, seed: int = 0) -> list[Text]:
    """Random texts with labelled spans and answers, so that every score of the pass has work to do."""
    rng, texts = random.Random(seed), []
    for ids in prompts(max(20, tokens // length), length, length, vocabulary, seed):
        starts = range(length // 8, length - length // 8, length // 8)
        spans = tuple(LabelledSpan(rng.choice(LABELS), start, start + length // 8) for start in starts)
        texts.append(Text(ids, prompt=length // 8, spans=spans, correct=rng.random() < 0.5))
    return texts


def random_dictionary(model: LoadedModel, latents: int, layer: int) -> Dictionary:
    """An untrained autoencoder: the time does not depend on what it has learnt."""
    torch.manual_seed(0)
    sae = StandardSAE(StandardSAEConfig(d_in=model.d_model, d_sae=latents, device="cpu"))
    with torch.no_grad():
        sae.W_enc.copy_(torch.randn(model.d_model, latents) / model.d_model**0.5)
        sae.W_dec.copy_(sae.W_enc.T)
    return Dictionary("random", sae, Site(layer))


def scoring_cost(model: LoadedModel, dictionary: Dictionary, tokens: int, *, every: int = 4) -> ScoringCost:
    """Score `tokens` random tokens: activity, ReasonScore with ten words, AUROC of four behaviours, correctness. Every `every`-th batch is
    timed against a bare pass over the same tokens."""
    texts = scored_texts(tokens, model.model.config.vocab_size)
    seen = ScorePass(model, dictionary, texts, vocabulary=Vocabulary(WORDS))
    stream = encoded(model, dictionary, texts, batch_size=BATCH)
    steps = -(-len(texts) // BATCH)
    scored, gathered, bare, ratios, early = [], [], [], [], 0.0
    for step in range(steps):
        chunk = texts[step * BATCH : (step + 1) * BATCH]
        ids = torch.tensor([text.ids for text in chunk])
        timed, before = step % every == 0, step // every % 2 == 0
        passes = []
        if timed and before:
            passes.append(_bare(model, dictionary, ids))
        start = time.perf_counter()
        batch = next(stream)
        middle = time.perf_counter()
        seen.add(batch)
        end = time.perf_counter()
        if timed and not before:
            passes.append(_bare(model, dictionary, ids))
        if step >= WARM:
            scored.append((end - start) / ids.numel())
        if passes and step >= WARM:
            bare.append(passes[0] / ids.numel())
            ratios.append((end - start) / passes[0])
            gathered.append((end - middle) / passes[0])
        if not early and step + 1 >= steps / 10:
            early = _peak_mib()
    late = _peak_mib()
    start = time.perf_counter()
    seen.columns()
    finish = time.perf_counter() - start
    counted = sum(len(text.ids) for text in texts)
    quartiles = statistics.quantiles(ratios, n=4)
    return ScoringCost(
        counted,
        1 / (statistics.median(scored) + finish / counted),
        1 / statistics.median(bare),
        statistics.median(ratios),
        (quartiles[0], quartiles[2]),
        statistics.median(gathered),
        finish,
        late - early,
        _peak_mib() - late,
    )


def _bare(model: LoadedModel, dictionary: Dictionary, ids: torch.Tensor) -> float:
    start = time.perf_counter()
    _forward_to(model, dictionary.site.layer, ids, torch.ones_like(ids))
    return time.perf_counter() - start


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(
    tokens: Annotated[int, typer.Option(help="Tokens to score.")] = 1_000_000,
    size: Annotated[str, typer.Option(help=f"Which model, of {', '.join(SIZES)}.")] = "30M",
    latents: Annotated[int, typer.Option(help="Latents of the autoencoder.")] = 4096,
    threads: Annotated[int, typer.Option(help="Threads.")] = 2,
    every: Annotated[int, typer.Option(help="Time every n-th batch against a bare pass.")] = 4,
) -> None:
    """Time one scoring pass and print what it cost."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as scratch:
        model = load_model(str(save_model(size, Path(scratch))))
    cost = scoring_cost(model, random_dictionary(model, latents, model.n_layers // 2), tokens, every=every)
    Console().print(
        f"{latents:,} latents at layer {model.n_layers // 2} of {model.n_layers}, {size}: {cost.tokens:,} tokens scored at "
        f"{cost.tokens_per_second:,.0f} tokens/s, the bare pass reads {cost.bare_tokens_per_second:,.0f} tokens/s; a scored batch takes "
        f"{cost.ratio:.3f} times a bare one (quartiles {cost.ratio_range[0]:.3f} to {cost.ratio_range[1]:.3f}), of which "
        f"{cost.gathering:.3f} is gathering scores; the final statistics take {cost.finish_seconds:.1f} s; the process grew by "
        f"{cost.growth_mib:.0f} MiB between the first tenth and the end, and by {cost.finish_mib:.0f} MiB in the final statistics"
    )


if __name__ == "__main__":
    typer.run(main)
