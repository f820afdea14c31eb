"""What is read: token sequences, and the positions or spans read in each.

1. Positions are indices into a sequence as fed, so a pad can never be read; padded batches go through `unpadded` first.
2. Negative positions count from the sequence's end and are stored as non-negative ones. A position outside its sequence, or named twice
   in one sequence, is refused.
3. A sample is one position or, in a reading of spans, the mean over one span: every span weighs the same, however long it is.
4. Attention sinks are left out when a model reads (`sinks`), unless the reading was made with `sinks=True`.
5. A leading BOS is skipped only by the constructors that say so; a sequence that begins with two of them is refused there.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import BadInput

Sequences = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Reading:
    """Token sequences (with BOS) and the positions to read in each."""

    sequences: tuple[tuple[int, ...], ...]
    positions: tuple[tuple[int, ...], ...]
    spans: tuple[tuple[int, ...], ...] | None = None
    """None: every position is a sample. Otherwise, for every position, the number of the span it belongs to: 0, 1, ... in each
    sequence, not falling. Spans may overlap; a sample is then the mean over a span."""
    sinks: bool = False
    """Read attention sinks too, where positions name them; extraction leaves them out otherwise (`without_sinks`)."""

    def __post_init__(self) -> None:
        sequences = tuple(tuple(map(int, s)) for s in self.sequences)
        if len(self.positions) != len(sequences):
            raise BadInput(
                f"{len(sequences)} sequences but positions for {len(self.positions)}; give one list for each."
            )
        positions = tuple(
            tuple(_inside(int(p), len(s), i) for p in wanted)
            for i, (s, wanted) in enumerate(zip(sequences, self.positions, strict=True))
        )
        if self.spans is None:
            for index, row in enumerate(positions):
                twice = sorted({p for p in row if row.count(p) > 1}) if len(set(row)) < len(row) else []
                if twice:
                    raise BadInput(f"Sequence {index} names position {twice[0]} twice; name each position once.")
        else:
            numbers = tuple(tuple(map(int, row)) for row in self.spans)
            if [len(row) for row in numbers] != [len(row) for row in positions]:
                raise BadInput("spans must name one span for every position; use Reading.over to build such a reading.")
            for index, row in enumerate(numbers):
                if list(row) != sorted(row) or set(row) != set(range(len(set(row)))):
                    raise BadInput(
                        f"Sequence {index}: spans are numbered 0, 1, ... in order of positions, not {row[:8]}."
                    )
            object.__setattr__(self, "spans", numbers)
        object.__setattr__(self, "sequences", sequences)
        object.__setattr__(self, "positions", positions)

    @property
    def digest(self) -> str:
        """Hash of the tokens and of what is read of them: 16 hexadecimal digits."""
        facts: list[object] = [self.sequences, self.positions, *([] if self.spans is None else [self.spans])]
        if self.sinks:
            facts.append("sinks")
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    @property
    def samples(self) -> tuple[int, ...]:
        """Samples per sequence."""
        if self.spans is None:
            return tuple(map(len, self.positions))
        return tuple(row[-1] + 1 if row else 0 for row in self.spans)

    @property
    def count(self) -> int:
        """Samples in all."""
        return sum(self.samples)

    def take(self, rows: Iterable[int]) -> Reading:
        """The reading of some sequences only, in the order given."""
        rows = list(rows)
        spans = None if self.spans is None else tuple(self.spans[r] for r in rows)
        return Reading(
            tuple(self.sequences[r] for r in rows), tuple(self.positions[r] for r in rows), spans, self.sinks
        )

    def split(self, share: float = 0.5, seed: int = 0) -> tuple[Reading, Reading]:
        """(`share` of the sequences, the rest), drawn by `seed`. Equal sequences stay together: neither part has seen the other's."""
        distinct = sorted(set(self.sequences))
        size = round(share * len(distinct))
        if not 0 < size < len(distinct):
            raise BadInput(f"A share of {share} of {len(distinct)} different sequences leaves one part empty.")
        chosen = set(random.Random(f"reading/{seed}").sample(distinct, size))
        inside = [i for i, s in enumerate(self.sequences) if s in chosen]
        return self.take(inside), self.take([i for i, s in enumerate(self.sequences) if s not in chosen])

    @staticmethod
    def last_token(sequences: Sequences) -> Reading:
        """Each sequence at its last token."""
        return Reading.at(sequences, (-1,))

    @staticmethod
    def all_tokens(sequences: Sequences, *, bos: int | None = None, sinks: bool = False) -> Reading:
        """Every token; attention sinks only with `sinks`. With `bos`, a leading token of that id is not read either."""
        return Reading(
            tuple(map(tuple, sequences)),
            tuple(tuple(range(_body(s, bos, i), len(s))) for i, s in enumerate(sequences)),
            sinks=sinks,
        )

    @staticmethod
    def response_tokens(prompts: Sequences, responses: Sequences) -> Reading:
        """Every token of each response, fed after its prompt. Raises BadInput for an empty prompt or response."""
        if len(prompts) != len(responses):
            raise BadInput(f"{len(prompts)} prompts but {len(responses)} responses; give one response for each prompt.")
        for index, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            if not prompt or not response:
                raise BadInput(f"Pair {index} has an empty {'response' if prompt else 'prompt'}; leave the pair out.")
        whole = [(*p, *r) for p, r in zip(prompts, responses, strict=True)]
        return Reading(tuple(whole), tuple(tuple(range(len(p), len(s))) for p, s in zip(prompts, whole, strict=True)))

    @staticmethod
    def at(sequences: Sequences, positions: Sequence[int] | Sequence[Sequence[int]], *, sinks: bool = False) -> Reading:
        """The named positions: one list for all sequences, or one list for each. Negative ones count from the end. Attention sinks among
        them are read only with `sinks`."""
        shared = all(not isinstance(p, Sequence) for p in positions)
        rows = [tuple(positions)] * len(sequences) if shared else [tuple(p) for p in positions]  # type: ignore[arg-type]
        return Reading(tuple(map(tuple, sequences)), tuple(rows), sinks=sinks)  # type: ignore[arg-type]

    @staticmethod
    def window(sequences: Sequences, centres: Sequence[Sequence[int]], start: int, stop: int) -> Reading:
        """Positions `centre + start` up to, not including, `centre + stop`, around each centre; (-13, -7) reads the 13th to the 8th
        token before it (arXiv 2507.12638). Cut at the sequence's ends; refused where nothing of a window is inside."""
        if start >= stop:
            raise BadInput(f"A window from {start} to {stop} is empty; start must be smaller than stop.")
        rows = []
        for index, (sequence, wanted) in enumerate(zip(sequences, centres, strict=True)):
            found: set[int] = set()
            for centre in (_inside(int(c), len(sequence), index) for c in wanted):
                inside = range(max(0, centre + start), min(len(sequence), centre + stop))
                if not inside:
                    raise BadInput(
                        f"Sequence {index} has {len(sequence)} tokens; the window {start} to {stop} around position {centre} is all "
                        f"outside it. Leave that position out or choose a nearer window."
                    )
                found.update(inside)
            rows.append(tuple(sorted(found)))
        return Reading(tuple(map(tuple, sequences)), tuple(rows))

    @staticmethod
    def over(sequences: Sequences, spans: Sequence[Sequence[tuple[int, int]]]) -> Reading:
        """The mean over each span `(start, end)`, end exclusive: one sample per span. Spans may overlap."""
        if len(spans) != len(sequences):
            raise BadInput(f"{len(sequences)} sequences but spans for {len(spans)}; give one list for each.")
        positions: list[tuple[int, ...]] = []
        numbers: list[tuple[int, ...]] = []
        for index, (sequence, wanted) in enumerate(zip(sequences, spans, strict=True)):
            for start, end in wanted:
                if not 0 <= start < end <= len(sequence):
                    raise BadInput(
                        f"Sequence {index} has {len(sequence)} tokens; span ({start}, {end}) is not inside it or is empty."
                    )
            positions.append(tuple(p for start, end in wanted for p in range(start, end)))
            numbers.append(tuple(n for n, (start, end) in enumerate(wanted) for _ in range(start, end)))
        return Reading(tuple(map(tuple, sequences)), tuple(positions), tuple(numbers))


def unpadded(ids: Sequences, mask: Sequences) -> tuple[tuple[int, ...], ...]:
    """The real tokens of a padded batch, left- or right-padded: `ids` where `mask` is 1. Raises BadInput when pads lie between tokens."""
    rows = []
    for index, (row, real) in enumerate(zip(ids, mask, strict=True)):
        kept = [i for i, keep in enumerate(real) if keep]
        if not kept or kept[-1] - kept[0] + 1 != len(kept):
            raise BadInput(f"Row {index} of the batch {'has pads between its tokens' if kept else 'holds only pads'}.")
        rows.append(tuple(int(row[i]) for i in kept))
    return tuple(rows)


def _inside(position: int, length: int, index: int) -> int:
    if not -length <= position < length:
        raise BadInput(
            f"Sequence {index} has {length} tokens; position {position} is outside it. Give 0 to {length - 1}, or {-length} to -1."
        )
    return position % length


def _body(sequence: Sequence[int], bos: int | None, index: int) -> int:
    if bos is None or not sequence or sequence[0] != bos:
        return 0
    if len(sequence) > 1 and sequence[1] == bos:
        raise BadInput(f"Sequence {index} begins with two BOS tokens ({bos}); tokenise it with one.")
    if len(sequence) == 1:
        raise BadInput(f"Sequence {index} holds nothing but BOS, so nothing of it is read; leave it out.")
    return 1
