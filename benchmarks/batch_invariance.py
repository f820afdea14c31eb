"""How often a token depends on the rows beside it: alone, in a batch, in reverse order, cut in two; in the fast mode and batch-invariant.

    python -m benchmarks.batch_invariance MODEL [--rows 125] [--tokens 80] [--json FILE]

1. Rows are sampled (temperature 1) or greedy continuations of short English prompts, a third of them steered by a random direction.
2. Two texts of a row are compared up to the first token in which they part; what follows differs for that reason alone. The rate is the
   number of partings per 10,000 tokens compared. Bits are log-probabilities of equal texts that are not equal to the last bit.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from steering.engine.generation import Generation, Row, generate
from steering.engine.sampling import GenerationSettings
from steering.model.models import load_model
from steering.model.prompts import encode_prompt
from steering.model.sites import Site
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import Provenance, SteeringVector

PROMPTS = (
    "The capital of France is", "Once upon a time there was a king who", "I think that the best way to learn physics is",
    "Dear Sir or Madam,", "The recipe needs two eggs,", "In 1912 the ship", "She opened the door and",
    "The most important rule of chess is",
)  # fmt: skip


def compared(one: list[Generation], other: list[Generation]) -> tuple[int, int, int]:
    """(tokens compared, texts that part, equal texts whose bits differ)."""
    tokens = parted = bits = 0
    for a, b in zip(one, other, strict=True):
        same = next((n for n, (x, y) in enumerate(zip(a.token_ids, b.token_ids, strict=False)) if x != y), None)
        tokens += len(a.token_ids) if same is None else same + 1
        parted += same is not None
        bits += same is None and a.logprob != b.logprob
    return tokens, parted, bits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rows", type=int, default=125)
    parser.add_argument("--tokens", type=int, default=80)
    parser.add_argument("--modes", default="fast,invariant")
    parser.add_argument("--alone", type=int, default=125, help="rows that are also written alone")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    model = load_model(asked.model, dtype=asked.dtype)
    site = Site(model.n_layers // 2)
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    vector = SteeringVector("random", site, direction, Provenance(model.fingerprint, "random"))
    steered = Plan((Intervention("add", vector, Span("generated"), Dose(0.1, "residual")),))
    rows = [
        Row(encode_prompt(model, PROMPTS[n % len(PROMPTS)]), steered if n % 3 == 2 else Plan(), seed=n)
        for n in range(asked.rows)
    ]
    found = []
    for mode in asked.modes.split(","):
        for kind, temperature in (("sampled", 1.0), ("greedy", 0.0)):
            settings = GenerationSettings(asked.tokens, temperature=temperature)
            begun, extra = time.perf_counter(), {"invariant": True} if mode == "invariant" else {}
            batch = generate(model, rows, settings, batch_size=32, **extra)
            seconds = time.perf_counter() - begun
            half = len(rows) // 2
            others = {
                "order": generate(model, rows[::-1], settings, batch_size=7, **extra)[::-1],
                "cut in two": [
                    g
                    for part in (rows[:half], rows[half:])
                    for g in generate(model, part, settings, batch_size=64, **extra)
                ],
                "alone": [generate(model, [row], settings, **extra)[0] for row in rows[: asked.alone]],
            }
            for name, other in others.items():
                tokens, parted, bits = compared(batch[: len(other)], other)
                line = {
                    "model": asked.model,
                    "dtype": asked.dtype,
                    "mode": mode,
                    "kind": kind,
                    "beside": name,
                    "tokens": tokens,
                    "parted": parted,
                    "per_10000": round(1e4 * parted / tokens, 3),
                    "rows_with_other_bits": bits,
                    "rows": len(other),
                    "ms_per_token_in_a_batch": round(1e3 * seconds / sum(len(g.token_ids) for g in batch), 3),
                }
                print(json.dumps(line), flush=True)
                found.append(line)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
