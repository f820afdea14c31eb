"""CoT-decoding (2402.10200): greedy paths from the k likeliest first tokens, chosen by how sure the model is of each path's answer.

1. Branches begin at the first token only, and go on greedily under the arm's plan.
2. A path's confidence is the mean over its ANSWER tokens of p(first) - p(second), the two likeliest tokens there. Tokens of the path that
   are not of the answer count for nothing.
3. A path that states no answer is asked for one: `cue` is appended and what follows is decoded greedily.
4. `max` takes the surest path; `aggregated` sums the confidence over paths of the same answer and takes the surest path of the best
   answer; `logprob` and `normalised` rank the same paths by log-probability, as a whole and per token; `greedy` takes the path of the
   likeliest first token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field

from steering.compile.text import token_facts
from steering.engine.generation import Finished, Generation, Row, generate, stream
from steering.engine.predicted import next_logprobs
from steering.engine.record import scores
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.model.models import LoadedModel

from .candidates import Asked, Candidate, answer_place, best, greedy, votes
from .decoder import Fields

Choice = Literal["aggregated", "max", "logprob", "normalised", "greedy"]


class CotDecoding(Fields):
    """`k` first tokens; `cue` asks for an answer where a path has none, at most `answer_tokens` long."""

    k: int = Field(default=10, ge=1)
    choose_by: Choice = "aggregated"
    cue: str = "\nSo the answer is"
    answer_tokens: int = Field(default=12, ge=1)

    def check(self, model: LoadedModel, settings: GenerationSettings) -> None:
        if self.k > len(model.tokenizer):
            raise BadInput(f"k is {self.k}; {model.id} has {len(model.tokenizer)} tokens.")
        cue_ids(model, self.cue)

    def candidates(
        self, model: LoadedModel, asked: Sequence[Asked], settings: GenerationSettings, batch_size: int
    ) -> list[list[Candidate]]:
        settings = greedy(settings)
        first = next_logprobs(model, [Row(one.prompt_ids, one.plan) for one in asked])
        likeliest = first.topk(self.k, dim=-1).indices
        rows, kept = [], []
        for number, one in enumerate(asked):
            for token in likeliest[number].tolist():
                kept.append((number, token))
                if token not in model.eos_ids and settings.max_new_tokens > 1:
                    rows.append(Row(one.prompt_ids, one.plan, begun=(token,)))
        written = iter(generate(model, rows, settings, batch_size=batch_size) if rows else [])
        paths = []
        for number, token in kept:
            whole = token not in model.eos_ids and settings.max_new_tokens > 1
            found = next(written) if whole else _only(model, asked[number], token)
            paths.append(with_first(found, first[number]))
        return self._judged(model, asked, [number for number, _ in kept], paths, batch_size)

    def _judged(
        self, model: LoadedModel, asked: Sequence[Asked], owners: list[int], paths: list[Generation], batch_size: int
    ) -> list[list[Candidate]]:
        spent = [len(path.token_ids) for path in paths]
        silent = [n for n, path in enumerate(paths) if asked[owners[n]].answered(path).answer is None]
        for n, found in zip(silent, cued(model, asked, owners, paths, silent, self, batch_size), strict=True):
            spent[n] += len(found.token_ids) - len(paths[n].token_ids)
            paths[n] = found
        groups: list[list[Candidate]] = [[] for _ in asked]
        for n, (owner, path, count) in enumerate(zip(owners, paths, spent, strict=True)):
            answered = asked[owner].answered(path)
            sure = confidence(model, path, answered.answer)
            groups[owner].append(Candidate(path, answered, sure, count, n in silent))
        return groups

    def spent(self, candidates: Sequence[Candidate]) -> int:
        return candidates[0].spent if self.choose_by == "greedy" else super().spent(candidates)

    def choose(self, candidates: Sequence[Candidate], asked: Asked) -> tuple[int, list[float | None]]:
        scores: list[float | None] = [one.score for one in candidates]
        if self.choose_by == "greedy":
            return 0, scores
        if self.choose_by in ("logprob", "normalised"):
            scores = [one.logprob if self.choose_by == "logprob" else one.per_token for one in candidates]
            return best(range(len(candidates)), scores), scores
        if self.choose_by == "aggregated" and (groups := votes(candidates, asked.same)):
            sums = {n: sum(candidates[m].score or 0.0 for m in group) for group in groups for n in group}
            group = max(groups, key=lambda found: (sums[found[0]], -found[0]))
            return best(group, scores), [sums.get(n) for n in range(len(candidates))]
        return best(range(len(candidates)), scores), scores


def cue_ids(model: LoadedModel, cue: str) -> tuple[int, ...]:
    """The cue as the model reads it. Raises BadInput for one that its tokenizer does not know."""
    try:
        token_facts(model).check_text(cue, "")
    except BadInput as error:
        raise BadInput(
            f"The words {cue!r} that are put into texts are not all known to the tokenizer of {model.id}; give others."
        ) from error
    return tuple(model.tokenizer(cue, add_special_tokens=False)["input_ids"])


def cued(
    model: LoadedModel,
    asked: Sequence[Asked],
    owners: Sequence[int],
    paths: Sequence[Generation],
    silent: Sequence[int],
    spec: CotDecoding,
    batch_size: int,
) -> list[Generation]:
    """Paths that state no answer, with the cue and what follows it; those that would leave the context stay as they are."""
    cue, found = cue_ids(model, spec.cue), {n: paths[n] for n in silent}
    rows: dict[int, Row] = {}
    for n in silent:
        body = tuple(token for token in paths[n].token_ids if token not in model.eos_ids)
        owner = asked[owners[n]]
        if len(owner.prompt_ids) + len(body) + len(cue) + spec.answer_tokens <= model.context:
            rows[n] = Row(owner.prompt_ids, owner.plan, begun=(*body, *cue))
    for length in sorted({len(row.begun) for row in rows.values()}):
        these = [n for n in rows if len(rows[n].begun) == length]
        settings = GenerationSettings(length + spec.answer_tokens)
        written = generate(model, [rows[n] for n in these], settings, batch_size=batch_size)
        for n, whole in zip(these, written, strict=True):
            found[n] = with_numbers(whole, paths[n])
    return [found[n] for n in silent]


def _only(model: LoadedModel, asked: Asked, token: int) -> Generation:
    """A path of one token: the prompt is read under its plan for the receipt, and the token put in the place of the drawn one."""
    events = stream(model, [Row(asked.prompt_ids, asked.plan)], GenerationSettings(1), silent_ok=True)
    read = next(event.generation for event in events if isinstance(event, Finished))
    return replace(read, token_ids=(token,), finish="eos" if token in model.eos_ids else "length")


def with_first(path: Generation, first: torch.Tensor) -> Generation:
    """A path that was begun with its first token, with the numbers of that token from the distribution `first [vocabulary]`."""
    table = scores(first[None], torch.tensor([path.token_ids[0]]))[0].tolist()
    wide = (len(table) - 2) // 2
    return replace(
        path,
        logprob=(table[0], *path.logprob[1:]),
        entropy=(table[1], *path.entropy[1:]),
        top_logprob=(*table[2 : 2 + wide], *path.top_logprob[wide:]),
        top_ids=(*map(int, table[2 + wide :]), *path.top_ids[wide:]),
    )


def with_numbers(longer: Generation, before: Generation) -> Generation:
    """A text that goes on from the tokens of another, with that one's numbers where they are the same tokens."""
    same = next(
        (n for n, (a, b) in enumerate(zip(longer.token_ids, before.token_ids, strict=False)) if a != b),
        min(len(longer.token_ids), len(before.token_ids)),
    )
    wide = len(longer.top_ids) // max(1, len(longer.token_ids))
    return replace(
        longer,
        logprob=(*before.logprob[:same], *longer.logprob[same:]),
        entropy=(*before.entropy[:same], *longer.entropy[same:]),
        top_ids=(*before.top_ids[: wide * same], *longer.top_ids[wide * same :]),
        top_logprob=(*before.top_logprob[: wide * same], *longer.top_logprob[wide * same :]),
    )


def confidence(model: LoadedModel, path: Generation, answer: str | None) -> float | None:
    """Mean of p(first) - p(second) over the answer's tokens, in [0, 1]; None where no answer stands in the text."""
    place = answer_place(model, path.token_ids, answer) if answer else None
    if place is None:
        return None
    wide = len(path.top_logprob) // len(path.token_ids)
    gaps = [math.exp(path.top_logprob[wide * n]) - math.exp(path.top_logprob[wide * n + 1]) for n in range(*place)]
    return sum(gaps) / len(gaps)
