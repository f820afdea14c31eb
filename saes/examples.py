"""Example windows for every latent, chosen in one pass with bounded memory.

1. `top` are a latent's largest activations. Bands are octaves below its peak: where 2^e <= peak < 2^(e+1), band 1 holds activations of
   [2^e, 2^(e+1)), band 2 of [2^(e-1), 2^e), and so on; the last band holds everything below.
2. Equal windows (same tokens around the active one) are one example, with how often they occur. In a band the examples are those
   with the smallest hash of (seed, latent, window): a uniform sample of the band's different windows that does not depend on the
   order of the texts or on batches, shown at their first occurrence, with exact counts. A window among `top` counts its occurrences from
   when it first was among the largest, and is shown at its strongest.
3. At most `examples` windows per latent and band, and `strongest` for `top`, are held. A rising peak only joins bands, and what is kept of
   two bands holds what is kept of both together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .corpus import Text

BANDS = 4
TOP = 0
"""The number under which `top` is stored, beside bands 1 to `BANDS`."""
_LOWEST = np.iinfo(np.int32).min


@dataclass(frozen=True)
class _Events:
    """Active tokens, one entry each: latent, band, hash of the window, activation, where, how many, activations along the window."""

    latent: NDArray[np.int64]
    band: NDArray[np.int64]
    key: NDArray[np.uint64]
    value: NDArray[np.float32]
    text: NDArray[np.int64]
    position: NDArray[np.int64]
    count: NDArray[np.int64]
    window: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.latent)

    def take(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> _Events:
        return _Events(*(getattr(self, f.name)[which] for f in fields(self)))

    def joined(self, other: _Events) -> _Events:
        return _Events(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))


@dataclass(frozen=True)
class Windows:
    """Chosen examples in the order of latents, then `TOP` (strongest first), then bands."""

    latent: NDArray[np.int64]
    band: NDArray[np.int64]
    low: NDArray[np.float64]
    """Smallest activation of the band (0 in `TOP` and the last one)."""
    activation: NDArray[np.float32]
    text: NDArray[np.int64]
    position: NDArray[np.int64]
    count: NDArray[np.int64]
    along: NDArray[np.float32]
    """`[examples, before + 1 + after]`: activations along the window, 0 outside the text and on special tokens."""


class Sampler:
    """Holds the examples of `latents` latents while batches go by."""

    def __init__(
        self,
        latents: int,
        examples: int,
        *,
        strongest: int | None = None,
        before: int = 16,
        after: int = 8,
        seed: int = 0,
    ):
        self.examples, self.before, self.after = examples, before, after
        self.strongest = examples if strongest is None else strongest
        self._seed = np.uint64(seed % 2**64)
        self._peak = np.full(latents, _LOWEST, np.int64)
        nothing = np.zeros(0, np.int64)
        empty = _Events(
            nothing, nothing, nothing.astype(np.uint64), np.zeros(0, np.float32), nothing, nothing, nothing,
            np.zeros((0, before + 1 + after), np.float32),
        )  # fmt: skip
        self._banded, self._top = empty, empty

    @property
    def held(self) -> int:
        """Windows held: at most latents * (examples * BANDS + strongest)."""
        return len(self._banded) + len(self._top)

    def add(self, z: NDArray[np.float32], numbers: Sequence[int], texts: Sequence[Text]) -> None:
        """Read `z [rows, positions, latents]`, 0 where a token does not count; `numbers` are the rows' places in `texts`."""
        row, position, latent = (axis.astype(np.int64) for axis in np.nonzero(z > 0))
        if not len(row):
            return
        value = z[row, position, latent]
        octave = _octave(value)
        np.maximum.at(self._peak, latent, octave)
        key = _mix(self._hashes(z.shape[1], numbers, texts)[row, position] ^ _mix(latent.astype(np.uint64)))
        text = np.asarray(numbers, np.int64)[row]

        def events(which: NDArray[np.int64]) -> _Events:
            place = position[which, None] + np.arange(-self.before, self.after + 1)
            inside = (place >= 0) & (place < z.shape[1])
            along = z[row[which, None], place.clip(0, z.shape[1] - 1), latent[which, None]] * inside
            return _Events(
                latent[which], band[which], key[which], value[which], text[which], position[which], count[which],
                along.astype(np.float32),
            )  # fmt: skip

        def read(near: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
            """The columns of single tokens, as `_ranks` takes them; `band` as it is at the time."""
            columns = (latent, band, key, value, text, position)
            return (*(column[near] for column in columns), np.ones(len(near), np.int64))

        band = self._band(latent, octave)
        held = replace(self._banded, band=self._band(self._banded.latent, _octave(self._banded.value)))
        held = self._kept(held, strongest=False)
        limit = np.full((len(self._peak), BANDS + 1), np.iinfo(np.uint64).max, np.uint64)
        full = np.zeros(limit.shape, np.int64)
        np.add.at(full, (held.latent, held.band), 1)
        last = np.zeros(limit.shape, np.uint64)
        np.maximum.at(last, (held.latent, held.band), held.key)
        limit[full >= self.examples] = last[full >= self.examples]
        near = np.flatnonzero(key <= limit[latent, band])
        which, counts, rank = _ranks(*read(near), strongest=False)
        count = np.zeros(len(row), np.int64)
        count[near[which]] = counts
        which = which[rank < self.examples]
        self._banded = self._kept(held.joined(events(near[which])), strongest=False)

        floor = np.zeros(len(self._peak), np.float32)
        full_top = np.bincount(self._top.latent, minlength=len(floor)) >= self.strongest
        least = np.full(len(floor), np.inf, np.float32)
        np.minimum.at(least, self._top.latent, self._top.value)
        floor[full_top] = least[full_top]
        near = np.flatnonzero((value >= floor[latent]) | np.isin(key, self._top.key))
        band = np.full(len(row), TOP, np.int64)
        which, counts, rank = _ranks(*read(near), strongest=True)
        count[near[which]] = counts
        which = which[(rank < self.strongest) | np.isin(key[near[which]], self._top.key)]
        self._top = self._kept(self._top.joined(events(near[which])), strongest=True)

    def finished(self) -> Windows:
        """What is held now."""
        held = replace(self._banded, band=self._band(self._banded.latent, _octave(self._banded.value)))
        both = self._top.joined(self._kept(held, strongest=False))
        both = both.take(np.lexsort((both.position, both.text, -both.value, both.band, both.latent)))
        exponent = self._peak[both.latent] + 1 - both.band
        low = np.where((both.band == TOP) | (both.band == BANDS), 0.0, 2.0 ** exponent.astype(np.float64))
        return Windows(both.latent, both.band, low, both.value, both.text, both.position, both.count, both.window)

    def _band(self, latent: NDArray[np.int64], octave: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.minimum(self._peak[latent] - octave + 1, BANDS)

    def _kept(self, events: _Events, *, strongest: bool) -> _Events:
        columns = [getattr(events, f.name) for f in fields(events)][:-1]
        which, counts, rank = _ranks(*columns, strongest=strongest)
        few = rank < (self.strongest if strongest else self.examples)
        kept = events.take(which[few])
        return replace(kept, count=counts[few])

    def _hashes(self, length: int, numbers: Sequence[int], texts: Sequence[Text]) -> NDArray[np.uint64]:
        """Hash of the window around every position, `[rows, length]`."""
        padded = np.full((len(numbers), self.before + length + self.after), -1, np.int64)
        for row, number in enumerate(numbers):
            ids = texts[number].ids
            padded[row, self.before : self.before + len(ids)] = ids
        tokens = (padded + 2).astype(np.uint64)
        found = np.full((len(numbers), length), self._seed)
        for offset in range(self.before + 1 + self.after):
            found = _mix(found ^ tokens[:, offset : offset + length])
        return found


def _ranks(
    latent: NDArray[np.int64],
    band: NDArray[np.int64],
    key: NDArray[np.uint64],
    value: NDArray[np.float32],
    text: NDArray[np.int64],
    position: NDArray[np.int64],
    count: NDArray[np.int64],
    *,
    strongest: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Equal windows of a latent and band folded: which entries stand for them, their counts, and their rank in latent and band."""
    if not len(latent):
        nothing = np.zeros(0, np.int64)
        return nothing, nothing, nothing
    order = np.lexsort((position, text, *((-value,) if strongest else ()), key, band, latent))
    changes = (np.diff(latent[order]) != 0) | (np.diff(band[order]) != 0) | (key[order][1:] != key[order][:-1])
    first = np.flatnonzero(np.concatenate([[True], changes]))
    counts = np.add.reduceat(count[order], first)
    which = order[first]
    if strongest:
        again = np.lexsort((position[which], text[which], -value[which], band[which], latent[which]))
        which, counts = which[again], counts[again]
    group = latent[which] * (BANDS + 1) + band[which]
    start = np.flatnonzero(np.concatenate([[True], np.diff(group) != 0]))
    rank = np.arange(len(which)) - np.repeat(start, np.diff(np.append(start, len(which))))
    return which, counts, rank


def _octave(value: NDArray[np.float32]) -> NDArray[np.int64]:
    """e with 2^e <= value < 2^(e+1)."""
    return np.frexp(value)[1].astype(np.int64) - 1


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's output function (Steele et al., 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
