"""The loop of one call of the engine: a queue of rows, a batch that they pass through, and the step that both share.

1. Every row is compiled once before the model runs, so that a bad one is refused before anything is computed.
2. Queued rows are admitted as places become free; with an empty queue the batch shrinks to the rows still running. Memory does not
   grow with the queue.
3. One transfer from the device per step: tokens, their numbers, the size of the edit, and whether the logits are finite.
4. A row whose logits are not finite ends (`nonfinite`) without a token; nothing of it reaches the rows beside it or after it.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..compile.compilation import CompiledPlans, RowPlan
from ..errors import BadInput, unknown
from ..model.cache import Masks
from ..model.models import LoadedModel
from .batch import Batch, seeds_and_steps
from .bias import Bias, BiasedRow, biased
from .graphs import StaticStep, can_compile, shape_key
from .invariant import PLACES, OwnColumns, demand_possible, fixed
from .nonfinite import located
from .prefill import PromptPool, admit
from .prefix import ROWS_PER_PROMPT, SharedPrompts, can_share
from .reading import prompt_needs, reading
from .record import Finish, Finished, Progress, Row, Step, scores
from .sampling import GenerationSettings, choose, draw_keys

Detail = Literal["scores", "tokens"]
"""Whether the numbers per token are computed and kept."""
COMPACT_BELOW = 0.7
"""With an empty queue, finished rows are dropped when fewer than this share of the batch is still running."""
REFILL_FROM = 0.125
"""Queued rows are admitted when at least this share of the batch has finished."""
NOTHING = np.zeros((0, 0), np.float32)
"""The numbers of a step when only tokens are kept."""
SLACK = 0.5
"""Spare columns of the cache, as a share of the longest row, so that shifting it is rare while rows are refilled."""


class Loop:
    """One call of `stream`: the queue, the batch, and the step that both share."""

    def __init__(
        self,
        model: LoadedModel,
        rows: Sequence[Row],
        settings: GenerationSettings,
        compiled: CompiledPlans,
        batch_size: int,
        detail: Detail,
        graph: bool | None,
        long: bool = False,
        invariant: bool = False,
    ):
        """`long` says on which side of a rotary limit the rows lie (`rope`): all of them on one. `invariant`: see that module."""
        if detail not in get_args(Detail):
            raise unknown("detail", detail, get_args(Detail))
        if batch_size < 1:
            raise BadInput(f"batch_size is {batch_size}; at least 1 row must run at a time.")
        gates = [gate for slot in compiled.slots for gate in slot.gates if gate is not None]
        self.scored, self.uncertain = detail == "scores", any(gate.kind == "entropy" for gate in gates)
        self.model, self.rows, self.settings, self.compiled, self.long = model, rows, settings, compiled, long
        self.masks = Masks(model.runs.config)
        self.biasing = any(row.bias is not None for row in rows)
        self.invariant = invariant
        places = PLACES if invariant else max(1, min(batch_size, len(rows)))
        static = self._graph_wanted(graph)
        # every span is resolved once before the model runs, so that a bad one is refused here
        readings = [reading(self._progress(index), invariant) for index in range(len(rows))]
        whole = Counter(r.prompt for r in readings if r.whole)
        shares = (
            not (static or invariant)
            and whole.total() >= ROWS_PER_PROMPT * max(1, len(whole))
            and can_share(model, self.masks)
        )
        needs = prompt_needs(readings, model.runs.resumes)
        self.queue = deque(sorted(range(len(rows)), key=lambda i: (-len(rows[i].read_ids), rows[i].read_ids)))
        self.pool = PromptPool(model, self.masks, needs, dict(Counter(row.read_ids for row in rows)), invariant)
        positions = max((len(row.prompt_ids) for row in rows), default=0) + settings.max_new_tokens
        own = max((len(r.prompt) for r in readings if not (shares and r.whole)), default=0)
        longest = own + settings.max_new_tokens
        columns = longest + (int(SLACK * longest) + 1 if len(rows) > places else 0)
        self.graph: StaticStep | None = None
        if static:
            positions, columns = min(_rounded(positions), model.context), _rounded(columns)
            self.graph, self.batch = self._static(places, columns, positions)
        else:
            shared = SharedPrompts(model.n_layers, places, max(map(len, whole)), self.masks) if shares else None
            own_columns = OwnColumns(self.masks) if invariant else None
            self.batch = Batch(
                model, compiled, places, columns, positions, self.masks, settings.needs_history, shared, own_columns
            )
        self.batch.column = own
        self.pending = torch.zeros(places, 1, dtype=torch.long, device=model.device)
        self.entropy = torch.zeros(places, 1, device=model.device)
        self.everywhere = list(range(places))
        """All places, in order."""

    def _graph_wanted(self, asked: bool | None) -> bool:
        if self.invariant:
            demand_possible(self.model)
            if asked:
                raise BadInput("A compiled step has shapes of its own; ask for `invariant` or for `compiled`.")
            return False
        possible = can_compile(self.model, self.compiled)
        if asked and not possible:
            raise BadInput(
                "The step cannot be compiled: another executor runs the model, or a gate calls a function; leave compiled out."
            )
        return possible and (self.model.device.type == "cuda" if asked is None else asked)

    def _static(self, places: int, columns: int, positions: int) -> tuple[StaticStep, Batch]:
        """A compiled step of these shapes, from an earlier run where there is one."""
        kept: dict[object, tuple[StaticStep, Batch]] = self.model.extra.setdefault("compiled_steps", {})
        key = shape_key(self.compiled, places, columns, positions, self.settings.needs_history)
        if key in kept:
            kept[key][1].reuse(self.compiled)
        else:
            batch = Batch(
                self.model, self.compiled, places, columns, positions, self.masks, self.settings.needs_history
            )
            kept.clear()  # one at a time: a step holds a whole cache
            kept[key] = StaticStep(batch), batch
        return kept[key]

    def _progress(self, index: int) -> Progress:
        row = self.rows[index]
        plan = None
        if row.plan:
            plan = RowPlan(self.compiled, row.plan, row.prompt_ids, self.settings.max_new_tokens, self.model)
            for place, token in enumerate(row.begun, len(row.prompt_ids)):
                plan.follow(place, token)
        bias = None
        if row.bias is not None:
            bias = BiasedRow(row.bias, self.model, row.prompt_ids, self.settings.max_new_tokens)
            for place, token in enumerate(row.begun, len(row.prompt_ids)):
                bias.follow(place, token)
        return Progress(index, row, plan, list(row.begun), bias=bias)

    def events(self, cancel: Callable[[], bool] | None) -> Iterator[Step | Finished]:
        with self.model.runs.holding({} if self.graph else self.batch.edits):
            yield from self._events(cancel)

    def _events(self, cancel: Callable[[], bool] | None) -> Iterator[Step | Finished]:
        stopped = False
        while (self.queue or self.batch.live) and not stopped:
            if self._refill_due():
                yield from self._admit()
                stopped = cancel is not None and cancel()
                continue
            yield from self._decode()
            stopped = cancel is not None and cancel()
        for place in self.batch.live:
            yield self._end(place)

    def _refill_due(self) -> bool:
        free = len(self.batch.free)
        return (
            bool(self.queue)
            and free > 0
            and (free == len(self.batch.rows) or free >= REFILL_FROM * len(self.batch.rows))
        )

    @torch.inference_mode()
    def _admitted(self) -> tuple[list[int], Tensor, Tensor]:
        count = min(len(self.batch.free), len(self.queue))
        coming = [self._progress(self.queue.popleft()) for _ in range(count)]
        with self.model.rope.fixed(self.long):
            return admit(self.batch, self.pool, coming)

    def _admit(self) -> Iterator[Step | Finished]:
        places, logits, ratio = self._admitted()
        yield from self._take(places, logits, ratio)

    @torch.inference_mode()
    def _forward(self) -> tuple[Tensor, Tensor | None]:
        if self.batch.column + 1 > self.batch.cache.columns:
            self.batch.make_room()
        with self.model.rope.fixed(self.long):
            if self.graph is not None:
                return self.graph(self.pending, self.entropy)
            return self.batch.forward(self.pending, self.batch.low, self.entropy, wanted=self.scored)

    def _decode(self) -> Iterator[Step | Finished]:
        logits, ratio = self._forward()
        live = self.batch.live
        if len(live) < len(self.batch.rows):
            chosen_rows = torch.tensor(live, device=logits.device)
            logits = logits.index_select(0, chosen_rows)
            ratio = None if ratio is None else ratio[chosen_rows]
        yield from self._take(live, logits, ratio)
        if self.invariant:
            return
        if not self.queue and self.graph is None and 0 < len(self.batch.live) < COMPACT_BELOW * len(self.batch.rows):
            keep = torch.tensor(self.batch.live, device=self.pending.device)
            self.pending, self.entropy = self.pending[keep], self.entropy[keep]
            self.batch.compact()
            self.everywhere = list(range(len(self.batch.rows)))

    @torch.inference_mode()
    def _choose(
        self, places: list[int], logits: Tensor, ratio: Tensor | None
    ) -> tuple[list[int], np.ndarray, list[int]]:
        """Choose a token for each place and set it to be fed next. Returns the tokens, what came with them in the same transfer where
        numbers are kept (size of the edit, numbers, gates), and which entries of `places` have no token, their logits being not finite."""
        drawn, batch, n = None, self.batch, len(places)
        if self.settings.temperature > 0:
            drawn = torch.from_numpy(draw_keys(*seeds_and_steps([batch.rows[p] for p in places]))).to(logits.device)
        everywhere = places == self.everywhere
        index: Any = slice(None) if everywhere else torch.tensor(places, device=logits.device)
        history = batch.history[index] if batch.history is not None else None
        weighed = logits
        if self.settings.penalty is not None:
            weighed = self.settings.penalty.applied(
                logits, [() if (r := batch.rows[p]) is None else r.tokens for p in places]
            )
        if self.biasing:
            weighed = biased(weighed, [_bias_of(batch.rows[p]) for p in places])
        if self.invariant:
            logits, weighed = fixed(logits), fixed(weighed)
            drawn, history = (None if part is None else fixed(part) for part in (drawn, history))
        chosen = choose(weighed, self.settings, drawn, history)
        self.pending[index, 0] = chosen[:n]
        if batch.history is not None:
            where = torch.tensor(
                [row.length for p in places if (row := batch.rows[p]) is not None], device=logits.device
            )
            batch.history[torch.tensor(places, device=logits.device), where] = chosen[:n]
        if not self.scored:
            if self.uncertain:
                entropy = torch.distributions.Categorical(logits=logits, validate_args=False).entropy()
                self.entropy[index, 0] = entropy[:n]
            # greedy choice takes a NaN or an infinity before any number; a draw need not
            telling = logits.gather(1, chosen[:, None])[:n, 0] if drawn is None else logits[:n].amax(-1)
            if chosen.is_cpu:
                return chosen[:n].tolist(), NOTHING, _not_finite(telling.tolist())
            tokens, values = torch.stack((chosen[:n].double(), telling.double())).tolist()
            return list(map(int, tokens)), NOTHING, _not_finite(values)
        numbers, gates = scores(logits, chosen)[:n], batch.latest_gates(places)
        chosen = chosen[:n]
        if self.uncertain:
            self.entropy[index, 0] = numbers[:, 1]
        size = torch.zeros(n, 1, device=logits.device) if ratio is None else ratio[:, None]
        parts = [chosen[:, None].float(), size.float(), numbers, *([] if gates is None else [gates])]
        table = torch.cat(parts, dim=1).cpu().numpy()
        return table[:, 0].astype(int).tolist(), table[:, 1:], _not_finite(table[:, 2].tolist())

    def _take(self, places: list[int], logits: Tensor, ratio: Tensor | None) -> Iterator[Step | Finished]:
        tokens, table, broken = self._choose(places, logits, ratio)
        if broken:
            yield from self._break([places[n] for n in broken])
            whole = [n for n in range(len(places)) if n not in broken]
            places, tokens = [places[n] for n in whole], [tokens[n] for n in whole]
            table = table[whole] if self.scored else table
            if not places:
                return
        running = [row for place in places if (row := self.batch.rows[place]) is not None]
        for place, progress, token in zip(places, running, tokens, strict=True):
            progress.tokens.append(token)
            self.batch.follow(place, token)
            if progress.bias is not None:
                progress.bias.follow(progress.length - 1, token)
            progress.finish = self._finish(progress, token)
        indices = tuple(row.index for row in running)
        if self.scored:
            asked = len(self.batch.ledger.gates)
            numbers, gates = table[:, 1 : table.shape[1] - asked], table[:, table.shape[1] - asked :]
            for progress, own in zip(running, numbers, strict=True):
                progress.numbers.append(own)
            read = tuple(
                tuple(gates[n, self.batch.ledger.gates_of(row)].tolist()) if asked else ()
                for n, row in enumerate(running)
            )
            yield Step(indices, tuple(tokens), numbers, table[:, 0], read)
        else:
            yield Step(
                indices, tuple(tokens), np.zeros((len(tokens), 0), np.float32), np.zeros(len(tokens), np.float32)
            )
        for place, progress in zip(places, running, strict=True):
            if progress.finish is not None:
                yield self._end(place)

    def _break(self, places: list[int]) -> Iterator[Finished]:
        """End rows whose logits are not finite, saying where that began."""
        for place in places:
            progress = self.batch.rows[place]
            assert progress is not None
            progress.finish = "nonfinite"
            with torch.inference_mode(), self.model.rope.fixed(self.long):
                progress.nonfinite = located(self.batch, progress)
            self.batch.spoiled.add(place)
            yield self._end(place)

    def _finish(self, progress: Progress, token: int) -> Finish | None:
        if token in self.model.eos_ids:
            return "eos"
        for stop in self.settings.stop_strings:
            if stop in self.model.tokenizer.decode(progress.tokens[-(len(stop) + 8) :]):
                return "stop"
        return "length" if len(progress.tokens) == self.settings.max_new_tokens else None

    def _end(self, place: int) -> Finished:
        progress = self.batch.rows[place]
        assert progress is not None
        generation = self.batch.finished(place)
        self.batch.rows[place] = None
        return Finished(progress.index, generation)


def _bias_of(progress: Progress | None) -> Bias | None:
    """The bias of a row's coming prediction."""
    if progress is None or progress.bias is None or not progress.bias.covers(progress.length - 1):
        return None
    return progress.bias.bias


def _not_finite(values: Sequence[float]) -> list[int]:
    """Where NaN or an infinity stands."""
    return [n for n, value in enumerate(values) if not math.isfinite(value)]


def _rounded(n: int) -> int:
    """Up to the next multiple of 64, so that runs of similar sizes share a compiled step."""
    return -(-n // 64) * 64
