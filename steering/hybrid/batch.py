"""The rows of one call of hybrid decoding: their places, the lanes of the two models, and the step that all rows take together.

1. Rows of any controllers share a batch; each row stands at its own position. A gated row reads its newest token a second time, shifted, in
   the step in which the others take their next one.
2. What a row writes, and why, is decided on numbers of that row alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor

from ..compile.text import token_facts
from ..engine.loop import COMPACT_BELOW, REFILL_FROM
from ..engine.record import scores
from ..model.models import LoadedModel
from ..model.sites import Site
from .decisions import broken, by_controller, categories, divergence, gates
from .edit import Inside, Made, PassEdit
from .lane import Lane, distinct
from .legacy import legacy_token
from .row import HybridRow, Wish, Writing


class Hybrid:
    """The rows of one call, their places, and the lanes of the two models."""

    def __init__(
        self,
        base: LoadedModel,
        thinking: LoadedModel | None,
        rows: Sequence[HybridRow],
        new: int,
        batch_size: int,
        long: tuple[bool, bool] = (False, False),
    ):
        """`long` says on which side of each model's rotary limit the rows lie (`rope`): all of them on one."""
        rules = [rule for rule, _ in by_controller([Writing(0, row) for row in rows], range(len(rows)))]
        self.base, self.new, self.facts = base, new, token_facts(base)
        self.ropes = [(base.rope, long[0]), *([] if thinking is None else [(thinking.rope, long[1])])]
        self.ends: dict[int, bool] = {}
        """Whether a token ends a sentence."""
        self.queue = deque(Writing(index, row) for index, row in enumerate(rows))
        places = min(batch_size, len(rows))
        self.rows: list[Writing | None] = [None] * places
        sites = {rule.bank.site for rule in rules if rule.bank is not None}
        self.site = next(iter(sites), None)
        reads = {rule.trigger.site for rule in rules if rule.trigger is not None}
        reads |= {rule.categories.site for rule in rules if rule.categories is not None and rule.which == "base"}
        self.one = Lane(base, places, max(len(row.prompt_ids) for row in rows) + new, sorted(reads), self.site)
        self.two: Lane | None = None
        if thinking is not None and any(rule.needs_thinking for rule in rules):
            reads = {rule.categories.site for rule in rules if rule.categories is not None and rule.which == "thinking"}
            self.two = Lane(thinking, places, max(len(row.theirs) for row in rows) + new, sorted(reads))
        self.pending = torch.zeros(places, dtype=torch.long, device=base.device)
        """Each row's newest token: to be fed, or to be read again."""
        self.shift = torch.zeros(places, base.d_model, device=base.device)
        """What is added to a row whose gate is open."""
        self._stack = ExitStack()

    def __enter__(self) -> Hybrid:
        self._stack.enter_context(self.one)
        if self.two is not None:
            self._stack.enter_context(self.two)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def busy(self) -> bool:
        return bool(self.queue) or any(row is not None for row in self.rows)

    @torch.inference_mode()
    def step(self) -> list[Writing]:
        """Admit rows, or take one step; returns the rows that ended with it."""
        with ExitStack() as stack:
            for rope, long in self.ropes:
                stack.enter_context(rope.fixed(long))
            return self._step()

    def _step(self) -> list[Writing]:
        free = [place for place, row in enumerate(self.rows) if row is None]
        if self.queue and free and (len(free) == len(self.rows) or len(free) >= REFILL_FROM * len(self.rows)):
            return self._admit(free[: len(self.queue)])
        ended = self._advance()
        self._compact()
        return ended

    def _admit(self, places: list[int]) -> list[Writing]:
        coming = [self.queue.popleft() for _ in places]
        for place, row in zip(places, coming, strict=True):
            self.rows[place] = row
            self.pending[place] = row.asked.prompt_ids[-1]
        logits, read, made = self._read_prompts(places, coming)
        if self.two is None:
            return self._decide(places, logits, read, None, {}, made)
        other, theirs = self.two.seat(places, [row.asked.theirs for row in coming])
        return self._decide(places, logits, read, other, theirs, made)

    def _read_prompts(
        self, places: list[int], rows: list[Writing]
    ) -> tuple[Tensor, dict[Site, Tensor], dict[int, Made]]:
        """Seat rows with the base; those whose rule decides within a pass do so at their prompt's last token."""
        inside = [n for n, row in enumerate(rows) if row.asked.controller.in_pass]
        plain = [n for n, row in enumerate(rows) if not row.asked.controller.in_pass]
        groups: list[tuple[Inside | None, list[int]]] = [(None, plain)] if plain else []
        groups += [(Inside(rule), members) for rule, members in by_controller(rows, inside)]
        logits: dict[int, Tensor] = {}
        read: dict[int, dict[Site, Tensor]] = {}
        made: dict[int, Made] = {}
        for rule, members in groups:
            prompts = [rows[n].asked.prompt_ids for n in members]
            found, seen = self.one.seat([places[n] for n in members], prompts, rule)
            for k, n in enumerate(members):
                logits[n], read[n] = found[k], {site: value[k] for site, value in seen.items()}
            if rule is not None:
                assert self.one.fired is not None and self.one.ratio is not None
                by_prompt = dict(zip(distinct(prompts), rule.made(self.one.fired, self.one.ratio), strict=True))
                made |= {places[n]: by_prompt[p] for n, p in zip(members, prompts, strict=True)}
        order = range(len(rows))
        together = {site: torch.stack([read[n][site] for n in order]) for site in read[0]}
        return torch.stack([logits[n] for n in order]), together, made

    def _advance(self) -> list[Writing]:
        """One pass of each model: gated rows read their newest token again, shifted; the others take their next one."""
        again = [place for place, row in enumerate(self.rows) if row is not None and row.wish is not None]
        onward = [place for place, row in enumerate(self.rows) if row is not None and row.wish is None]
        advance, fed = self._flags(onward), self.pending.clone()
        kept = [p for p in again if (row := self.rows[p]) is not None and not row.asked.controller.revert]
        edit = PassEdit(self.rows, again, onward, self.shift)
        logits = self.one.step(fed, advance, edit if edit.needed else None, self._flags(kept) if kept else None)
        ended = self._emit_shifted(again, logits) if again else []
        if not onward:
            return ended
        index = None if len(onward) == len(self.rows) else torch.tensor(onward, device=logits.device)
        read = self.one.read if index is None else {site: value[index] for site, value in self.one.read.items()}
        mine = logits if index is None else logits[index]
        made = edit.made(self.one)
        needy = any((row := self.rows[p]) is not None and row.asked.controller.needs_thinking for p in onward)
        if self.two is None or not needy:
            return ended + self._decide(onward, mine, read, None, {}, made)
        there = self.two.seen.device
        other = self.two.step(fed.to(there), advance.to(there))
        theirs = self.two.read
        if index is not None:
            other, theirs = other[index.to(there)], {site: value[index.to(there)] for site, value in theirs.items()}
        return ended + self._decide(onward, mine, read, other, theirs, made)

    def _flags(self, places: Sequence[int]) -> Tensor:
        flags = torch.zeros(len(self.rows), dtype=torch.bool)
        flags[list(places)] = True
        return flags.to(self.pending.device)

    def _emit_shifted(self, again: list[int], logits: Tensor) -> list[Writing]:
        """Write what gated rows predict after their second reading."""
        assert self.one.fired is not None and self.one.ratio is not None
        index = torch.tensor(again, device=logits.device)
        chosen = logits[index].argmax(-1)
        numbers = scores(logits[index], chosen).cpu().numpy()
        self.pending[index] = chosen
        ended = []
        sizes = torch.stack([self.one.fired[index].float(), self.one.ratio[index]], 1).tolist()
        for place, token, table, (fired, ratio) in zip(again, chosen.tolist(), numbers, sizes, strict=True):
            row = self.rows[place]
            assert row is not None and row.wish is not None
            wish, row.wish = row.wish, None
            row.fired += int(fired)
            row.record(wish.category, wish.alpha, wish.agreed, None if wish.thought is None else token == wish.thought)
            ended += self._emit(place, row, token, table, ratio)
        return ended

    def _decide(
        self,
        places: list[int],
        logits: Tensor,
        read: Mapping[Site, Tensor],
        other: Tensor | None,
        theirs: Mapping[Site, Tensor],
        made: Mapping[int, Made],
    ) -> list[Writing]:
        """Gate rows that have just read a token; write for those whose gate is shut, or which need no second reading."""
        rows = [row for place in places if (row := self.rows[place]) is not None]
        if bad := broken(rows, logits, other):
            ended = [
                row
                for n in bad
                for row in self._break(places[n], rows[n], made[places[n]].ratio if places[n] in made else 0.0)
            ]
            whole = torch.tensor([n for n in range(len(rows)) if n not in bad], dtype=torch.long, device=logits.device)
            if not len(whole):
                return ended
            read, theirs = (
                {site: value[whole.to(value.device)] for site, value in found.items()} for found in (read, theirs)
            )
            rest = None if other is None else other[whole.to(other.device)]
            return ended + self._decide([places[n] for n in whole.tolist()], logits[whole], read, rest, theirs, made)
        thoughts = None if other is None else other.argmax(-1).to(logits.device)
        agrees: list[bool | None] = [None] * len(rows)
        if thoughts is not None:
            agrees = (logits.argmax(-1) == thoughts).tolist()
        asked = other is not None and any(row.asked.controller.when == "divergence" for row in rows)
        opened = gates(rows, agrees, divergence(logits, other) if asked and other is not None else None, logits, read)
        found = categories(rows, opened, read, theirs)
        thought: list[int | None] = [None] * len(rows) if thoughts is None else thoughts.tolist()
        final = logits.clone() if opened else logits
        forced: dict[int, int | None] = {}
        for rule, members in by_controller(rows, opened, lambda rule: (rule.how, id(rule.bank), id(rule.bias))):
            index = torch.tensor(members, device=logits.device)
            chosen = torch.tensor([found.get(n, 0) for n in members], device=logits.device)
            if rule.how == "shift":
                assert rule.bank is not None and self.site is not None
                added, alpha = rule.bank.shift(read[self.site][index], chosen)
                self.shift[torch.tensor([places[n] for n in members], device=added.device)] = added.to(self.shift)
                for n, a in zip(members, alpha.tolist(), strict=True):
                    rows[n].wish = Wish(found[n], a, thought[n], agrees[n])
                    rows[n].planned += 1
            elif rule.how == "bias":
                assert rule.bias is not None
                final[index] += rule.bias.to(final)[chosen]
            elif rule.how == "substitute":
                forced |= {n: thought[n] for n in members}
            else:
                assert other is not None and rule.bank is not None
                for n in members:
                    ids, prompt = [*rows[n].asked.prompt_ids, *rows[n].tokens], len(rows[n].asked.prompt_ids)
                    final[n] = legacy_token(self.base, rule.bank, found[n], ids, prompt, other[n])[1]
        return self._write(
            places, rows, final, forced, made, {n: (found.get(n, -1), agrees[n], thought[n]) for n in opened}
        )

    def _write(
        self,
        places: list[int],
        rows: list[Writing],
        final: Tensor,
        forced: Mapping[int, int | None],
        made: Mapping[int, Made],
        opened: Mapping[int, tuple[int, bool | None, int | None]],
    ) -> list[Writing]:
        """Write the tokens of rows that do not wait for a second reading."""
        now = [n for n, row in enumerate(rows) if row.wish is None]
        if not now:
            return []
        chosen = final if len(now) == len(rows) else final[torch.tensor(now, device=final.device)]
        tokens = chosen.argmax(-1)
        for k, n in enumerate(now):
            if n in forced:
                tokens[k] = forced[n]
        numbers = scores(chosen, tokens).cpu().numpy()
        self.pending[torch.tensor([places[n] for n in now], device=tokens.device)] = tokens
        ended = []
        for n, token, table in zip(now, tokens.tolist(), numbers, strict=True):
            row, ratio = rows[n], 0.0
            if n in opened:
                category, agreed, thought = opened[n]
                row.record(category, float("nan"), agreed, None if thought is None else token == thought)
            elif places[n] in made and made[places[n]].fired:
                done = made[places[n]]
                row.planned, row.fired, ratio = row.planned + 1, row.fired + 1, done.ratio
                row.record(done.category, done.alpha, None, None)
            ended += self._emit(places[n], row, token, table, ratio)
        return ended

    def _emit(self, place: int, row: Writing, token: int, numbers: np.ndarray, ratio: float) -> list[Writing]:
        """Write one token, or end the row where its logits are not finite; returns the row if it ended."""
        if not np.isfinite(numbers[0]):
            return self._break(place, row, ratio)
        row.tokens.append(token)
        row.numbers.append(numbers)
        row.ratio.append(ratio)
        if token not in self.ends:
            self.ends[token] = self.facts.ends_sentence(token)
        row.starts_sentence = self.ends[token]
        row.finish = "eos" if token in self.base.eos_ids else "length" if len(row.tokens) == self.new else None
        if row.finish is None:
            return []
        self._leave(place)
        return [row]

    def _break(self, place: int, row: Writing, ratio: float) -> list[Writing]:
        """End a row whose logits are not finite; `ratio` is the size of the edit that they come from."""
        row.finish, row.broken = "nonfinite", ratio
        self._leave(place)
        for lane in (self.one, self.two):
            if lane is not None:
                lane.wipe([place])
        return [row]

    def _leave(self, place: int) -> None:
        self.rows[place] = None
        self.one.leave([place])
        if self.two is not None:
            self.two.leave([place])

    def _compact(self) -> None:
        """With an empty queue, drop places that no row holds once there are many."""
        live = [place for place, row in enumerate(self.rows) if row is not None]
        if self.queue or not live or len(live) >= COMPACT_BELOW * len(self.rows):
            return
        index = torch.tensor(live, device=self.pending.device)
        self.rows = [self.rows[place] for place in live]
        self.pending, self.shift = self.pending[index], self.shift[index]
        self.one.keep(live)
        if self.two is not None:
            self.two.keep(live)
