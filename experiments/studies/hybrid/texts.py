"""What a hybrid is made from: sampled rollouts of the thinking model, and labels of sentences.

1. Questions of traces, rollouts and held-out rollouts are drawn apart: on the built-in task by their seeds, elsewhere one after the other
   from the splits that are read.
2. Rollouts are sampled as in 2510.07364, App. E.1 (temperature 0.6, top-p 0.95) and kept as the ids that were fed.
3. On the built-in task labels are the grammar's and exact. Elsewhere they are the lexicon's or a trained labeller's, and what is made of
   them carries its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from probes.labels import BehaviourLabel, label_at
from saes.sentence_text import split_sentences, thinking_span
from steering.compile.text import character_places
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.extraction.annotations import token_span
from steering.hybrid.alignment import Aligned
from steering.hybrid.disagreement import continued_pairs
from steering.model.models import LoadedModel
from steering.model.thinking import model_markers

from ...pair.verifier import verify
from ...tasks.findstart import FindStart
from ...tasks.items import Item
from ...tasks.task import Task
from ..readings import training_problems
from .spec import HybridSpec
from .taxonomy import Traces

TEMPERATURE, TOP_P = 0.6, 0.95
SEEDS = {"traces": 11, "rollouts": 12, "held_out": 13}
"""Of the built-in task's training problems."""
Ids = tuple[int, ...]
SentenceLabels = dict[tuple[int, int, int], str]
"""By (text, first, last token) of a sentence."""


def question_items(spec: HybridSpec, task: Task) -> dict[str, list[Item]]:
    """The questions of each use. Raises BadInput where the splits that are read hold fewer than the uses need."""
    sizes = {"traces": spec.traces, "rollouts": spec.rollouts, "held_out": spec.held_out}
    if isinstance(task, FindStart):
        return {
            use: [
                Item(f"train/{use}/{i:05d}", str(p.answer), p) for i, p in enumerate(training_problems(n, SEEDS[use]))
            ]
            for use, n in sizes.items()
        }
    every = [item for split, n in spec.read.items() for item in task.items(split, n)]
    items = list({" ".join(task.prompt(item, spec.form).split()): item for item in reversed(every)}.values())[::-1]
    if len(items) < sum(sizes.values()):
        needs = " + ".join(f"{n} {use}" for use, n in sizes.items())
        raise BadInput(
            f"A hybrid on {task.name} reads {needs} = {sum(sizes.values())} questions, each once, and the splits that are read hold "
            f"{len(items)} different ones. Read more, or ask for fewer, as in --set traces=40 --set rollouts=60 --set held_out=20."
        )
    found, start = {}, 0
    for use, n in sizes.items():
        found[use] = items[start : start + n]
        start += n
    return found


def rollouts(
    base: LoadedModel, thinking: LoadedModel, prompts: Sequence[Ids], asked: Sequence[Ids], max_new_tokens: int
) -> list[Aligned]:
    """One sampled text of the thinking model per prompt, behind the prompt as each model is fed it: `prompts` the base, `asked` the
    thinking model."""
    rows = [Row(ids, seed=index) for index, ids in enumerate(asked)]
    settings = GenerationSettings(max_new_tokens, temperature=TEMPERATURE, top_p=TOP_P)
    found = []
    for mine, text in zip(prompts, generate(thinking, rows, settings, batch_size=96, detail="tokens"), strict=True):
        pairs = continued_pairs(len(mine), len(text.prompt_ids), len(text.token_ids))
        found.append(Aligned((*mine, *text.token_ids), (*text.prompt_ids, *text.token_ids), pairs))
    return found


def sentence_labels(
    model: LoadedModel, traces: Traces, items: Sequence[Item], label: Callable[[str], tuple[BehaviourLabel, ...]] | None
) -> SentenceLabels:
    """The label of every sentence of a trace: the one that covers most of it. With no `label` the items are problems of the built-in
    task, and labels are its grammar's."""
    found: SentenceLabels = {}
    for number, (prompt, ids, item) in enumerate(zip(traces.prompts, traces.responses, items, strict=True)):
        text, places = character_places(model, ids)
        begin, stop = thinking_span(text, model_markers(model))
        exact: dict[int, str] = {}
        if label is None:
            for span in verify(item.data, text.split()).labels:
                exact |= dict.fromkeys(range(span.start, span.end), span.label)
        given = () if label is None else label(text)
        for low, high in split_sentences(text[begin:stop]):
            tokens = token_span(places, begin + low, begin + high)
            if tokens is None:
                continue
            place = (number, len(prompt) + tokens[0], len(prompt) + tokens[1])
            own = Counter(exact[t] for t in range(*tokens) if t in exact)
            if own:
                found[place] = own.most_common(1)[0][0]
            elif (said := label_at(given, begin + low, begin + high)) is not None:
                found[place] = said
    return found
