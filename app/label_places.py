"""Where the labels of marks in a figure stand, so that no two overlap and none lies on a mark or an interval.

1. Places are Plotly's text positions, tried in order; a label that finds none is left to the hover, and the sentence below names it.
2. Sizes are those of a narrow page: on a wider one everything moves apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PLACES = (
    *(
        "middle right",
        "top right",
        "bottom right",
        "middle left",
        "top left",
        "bottom left",
        "top center",
        "bottom center",
    ),
)
"""Beside the mark first: above and below it lies its interval."""
WIDTH, HEIGHT = 640.0, 340.0
"""Of the plot, in pixels."""
LETTER, LINE, MARK = 5.8, 13.0, 7.0
"""Width of a letter, height of a line, half a mark, in pixels at ten points."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y upwards."""

    left: float
    low: float
    right: float
    high: float

    def meets(self, other: Box) -> bool:
        return self.left < other.right and other.left < self.right and self.low < other.high and other.low < self.high


@dataclass(frozen=True)
class Mark:
    """A mark with its interval, all in shares of the plot's width and height, and its label, empty where it has none."""

    x: float
    y: float
    low: float
    high: float
    label: str = ""

    @property
    def boxes(self) -> tuple[Box, Box]:
        """The mark, and its interval."""
        x, y = WIDTH * self.x, HEIGHT * self.y
        return (
            Box(x - MARK, y - MARK, x + MARK, y + MARK),
            Box(x - MARK / 2, HEIGHT * self.low, x + MARK / 2, HEIGHT * self.high),
        )

    def at(self, place: str) -> Box:
        """Where its label lies at a place."""
        up, side = place.split()
        x, y, wide = WIDTH * self.x, HEIGHT * self.y, LETTER * len(self.label)
        left = {"left": x - MARK - wide, "center": x - wide / 2, "right": x + MARK}[side]
        low = {"top": y + MARK, "middle": y - LINE / 2, "bottom": y - MARK - LINE}[up]
        return Box(left, low, left + wide, low + LINE)


def placed(marks: Sequence[Mark]) -> list[str | None]:
    """The place of each mark's label; None of a mark without one, and where there is no room."""
    taken = [(n, box) for n, mark in enumerate(marks) for box in mark.boxes]
    found: list[str | None] = []
    labels: list[Box] = []
    for n, mark in enumerate(marks):
        place = next((p for p in PLACES if _free(mark.at(p), n, taken, labels)), None) if mark.label else None
        if place is not None:
            labels.append(mark.at(place))
        found.append(place)
    return found


def _free(box: Box, own: int, taken: Sequence[tuple[int, Box]], labels: Sequence[Box]) -> bool:
    """Whether a label lies inside the plot and on nothing; its own mark and interval it may touch."""
    inside = 0 <= box.left and box.right <= WIDTH and 0 <= box.low and box.high <= HEIGHT
    return inside and not any(box.meets(other) for n, other in taken if n != own) and not any(map(box.meets, labels))
