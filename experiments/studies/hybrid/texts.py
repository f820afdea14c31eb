"""What a hybrid is made from: sampled rollouts of the thinking model, and labels of sentences on the built-in task.

1. Problems are training problems; those of traces, rollouts and held-out rollouts are drawn apart by their seeds.
2. Rollouts are sampled as in 2510.07364, App. E.1 (temperature 0.6, top-p 0.95) and kept as the ids that were fed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from saes.sentence_text import split_sentences
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.extraction.annotations import token_span
from steering.hybrid.alignment import Aligned
from steering.hybrid.disagreement import continued_pairs
from steering.model.models import LoadedModel
from steering.model.prompts import encode_prompt

from ...pair.problem import Problem
from ...pair.verifier import verify
from .taxonomy import Traces

TEMPERATURE, TOP_P = 0.6, 0.95
SEEDS = {"traces": 11, "rollouts": 12, "held_out": 13}
"""Of `training_problems`."""


def rollouts(
    base: LoadedModel, thinking: LoadedModel, prompts: Sequence[str], asked: Sequence[str], max_new_tokens: int
) -> list[Aligned]:
    """One sampled text of the thinking model per prompt, behind the prompt as each model is fed it: `prompts` the base, `asked` the
    thinking model."""
    rows = [Row(encode_prompt(thinking, prompt), seed=index) for index, prompt in enumerate(asked)]
    settings = GenerationSettings(max_new_tokens, temperature=TEMPERATURE, top_p=TOP_P)
    found = []
    for prompt, text in zip(prompts, generate(thinking, rows, settings, batch_size=96, detail="tokens"), strict=True):
        mine = encode_prompt(base, prompt)
        pairs = continued_pairs(len(mine), len(text.prompt_ids), len(text.token_ids))
        found.append(Aligned((*mine, *text.token_ids), (*text.prompt_ids, *text.token_ids), pairs))
    return found


def sentence_labels(model: LoadedModel, traces: Traces, problems: Sequence[Problem]) -> dict[tuple[int, int, int], str]:
    """The grammar's label of every clause of a trace, by (text, first, last token): the one that covers most of its tokens."""
    found = {}
    for number, (text, begin, problem) in enumerate(zip(traces.texts, traces.begins, problems, strict=True)):
        offsets = model.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        start = next(i for i, (low, high) in enumerate(offsets) if high > low and low >= begin)
        label_of: dict[int, str] = {}
        for span in verify(problem, text[begin:].split()).labels:
            label_of |= dict.fromkeys(range(start + span.start, start + span.end), span.label)
        for low, high in split_sentences(text[begin:]):
            tokens = token_span(offsets, begin + low, begin + high)
            if tokens is not None:
                own = Counter(label_of[t] for t in range(*tokens) if t in label_of)
                if own:
                    found[number, *tokens] = own.most_common(1)[0][0]
    return found
