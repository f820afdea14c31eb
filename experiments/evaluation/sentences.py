"""A summary in words and as a table for the terminal.

1. Where the interval of a comparison holds 0, the sentence says that nothing was detected and how large a difference would be found.
2. A steered arm's sentence says what is left beyond its controls: how many of them do at least as well, and where theirs lie. An arm
   without controls says so, and so does one with few, or with edits of another size. Rows that ended with NaN or infinity are counted.
3. Many controls of one arm are one line of the table: their mean and their extremes.
"""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from ..statistics import Interval
from .crowds import with_crowds
from .summarise import POWER
from .summary import ArmSummary, Beyond, Comparison, Gap, RunSummary

FEW = 30
"""Below this many items a comparison is called exploratory."""


def _points(value: float) -> str:
    return f"{round(100 * value, 1) + 0.0:+.1f}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def _items(found: Comparison) -> str:
    return f"n = {found.n}" if found.paired_n == found.n else f"n = {found.n} items, {found.paired_n} pairs"


def beyond_sentence(found: Beyond) -> str:
    """What is left beyond the controls, and what to hold against it."""
    interval = f"{_points(found.interval.low)} to {_points(found.interval.high)}"
    alike = " of equal edit size" if found.matched else ""
    text = (
        f"{_points(found.difference)} points over {found.named}{alike} ({interval}, over items and directions, n = {found.n}; theirs lie "
        f"between {100 * found.low:.1f} and {100 * found.high:.1f} %); {found.as_good} do at least as well, one-sided "
        f"p = {found.rank_p:.3g}."
    )
    if not found.matched:
        text += f" Not matched: {found.unmatched}."
    if found.absent or found.left_out:
        text += (
            f" {found.absent} controls have no rows yet; {found.left_out} items that not all of them hold are left out."
        )
    return text + (" Too few controls for this interval to be relied on." if found.few else "")


def nonfinite_sentence(arm: ArmSummary) -> str:
    """How many rows of an arm broke off, and what that means for its numbers."""
    return (
        f"{arm.nonfinite} of {arm.n} rows ended because the model's numbers became NaN or infinite; they are not graded and count as not "
        f"right."
    )


def sentence(arm: ArmSummary) -> str:
    """What the arm shows, in English. The baseline, and an arm without pairs, is described by itself."""
    if arm.accuracy is None:
        return f"{arm.label}: no rows yet."
    if arm.versus_baseline is None:
        share = arm.accuracy
        return (
            f"{100 * share.value:.1f} % right ({100 * share.interval.level:g} % CI {100 * share.interval.low:.1f} to "
            f"{100 * share.interval.high:.1f}), n = {share.n}; {arm.truncated} truncated, {arm.unscorable} unscorable; "
            f"{arm.mean_tokens:.0f} tokens on average."
            + (f" {unclosed_said(arm).capitalize()}." if arm.unclosed else "")
            + (f" {nonfinite_sentence(arm)}" if arm.nonfinite else "")
        )
    found = arm.versus_baseline
    interval = f"{100 * found.interval.level:g} % CI {_points(found.interval.low)} to {_points(found.interval.high)}"
    counts = f"{found.helped} helped, {found.hurt} hurt, {_items(found)}, {_p(found.p)}"
    tokens = f"tokens {round(found.token_difference):+d}."
    if 0 in found.interval or found.p >= 1 - found.interval.level:
        if found.detectable is None:
            power = "this n is too small to find any difference"
        else:
            points = f"{100 * found.detectable:.0f}" if found.detectable >= 0.0995 else f"{100 * found.detectable:.1f}"
            power = f"with this n, differences of about {points} points would be found with {100 * POWER:g} % power"
        text = f"No detectable difference ({_points(found.difference)} points, {interval}, {counts}); {power}; {tokens}"
    else:
        text = f"{_points(found.difference)} points ({interval}), {counts}; {tokens}"
    if arm.nonfinite:
        text += f" {nonfinite_sentence(arm)}"
    if found.missing:
        text += f" {found.missing} pairs are missing on one side and left out."
    if arm.beyond is not None:
        text += f" {beyond_sentence(arm.beyond)}"
    elif arm.role == "steered":
        text += " No random direction stands beside it: whether any edit of this size would do the same is open."
    if found.n < FEW:
        text += f" Exploratory: fewer than {FEW} items."
    return text


def render_table(summary: RunSummary, split: str) -> Table:
    """One split as a table for the terminal, readable from 80 columns on; what is undefined, left out or not yet
    there is said below it. Raises KeyError for a split that the summary does not have."""
    part = summary.split(split)
    table = Table(title=Text(f"{part.split}: {part.items} items"), title_justify="left", caption_justify="left")
    table.box, table.padding, table.show_edge = SIMPLE_HEAD, 0, False
    table.add_column("arm", min_width=10)
    for name in ("n", "right\n%", "trace\n%", "cut/no\nanswer", "tokens", "vs baseline\npoints"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("helped\n/hurt", "gap re-\ncovered %"):
        table.add_column(name, justify="right", no_wrap=True)
    notes = [f"Intervals: {100 * summary.level:g} %."]
    shown = with_crowds(part.arms)
    for arm in shown:
        found, gap = arm.versus_baseline, arm.gap
        table.add_row(
            Text(arm.label),
            str(arm.n),
            _cell(arm.accuracy.value, arm.accuracy.interval, ".0f") if arm.accuracy else "-",
            f"{100 * arm.trace_accuracy.value:.1f}" if arm.trace_accuracy else "-",
            f"{arm.truncated}/{arm.unscorable}",
            "-" if arm.mean_tokens is None else f"{arm.mean_tokens:.0f}",
            _cell(found.difference, found.interval, "+.1f") if found else "-",
            f"{found.helped}/{found.hurt}\n{_p(found.p).replace(' ', '')}" if found and found.p == found.p else "-",
            _gap_cell(gap) if gap else "-",
        )
        notes += _notes(arm, part.items)
    if any(arm.versus_baseline and arm.versus_baseline.p != arm.versus_baseline.p for arm in shown):
        notes.append("A line for many controls has their smallest and largest mean, no interval.")
    if any(a.versus_baseline and a.versus_baseline.n < FEW for a in part.arms):
        notes.append(f"Exploratory: fewer than {FEW} items.")
    table.caption = Text("\n".join(notes))
    return table


def _cell(value: float, interval: Interval, form: str) -> str:
    """A share or difference in per cent, its interval on a second line; `form` is the format of the bounds."""
    low, high = (format(round(100 * bound, 1) + 0.0, form) for bound in (interval.low, interval.high))
    return f"{format(round(100 * value, 1) + 0.0, '+.1f' if '+' in form else '.1f')}\n{low} to {high}"


def _gap_cell(gap: Gap) -> str:
    return "not\ndefined" if gap.value is None or gap.interval is None else _cell(gap.value, gap.interval, ".0f")


def unclosed_said(arm: ArmSummary) -> str:
    """How many rows end inside their thinking segment, and what reading them leniently gives."""
    rows = "1 row ends" if arm.unclosed == 1 else f"{arm.unclosed} rows end"
    return f"{rows} inside the thinking segment; {arm.lenient} of them hold the right answer there"


def _notes(arm: ArmSummary, items: int) -> list[str]:
    found, gap, notes = arm.versus_baseline, arm.gap, []
    if arm.unclosed:
        notes.append(f"{arm.label}: {unclosed_said(arm)}.")
    if arm.items < items:
        notes.append(f"{arm.label}: {arm.items} of {items} items so far.")
    if arm.nonfinite:
        notes.append(f"{arm.label}: {nonfinite_sentence(arm)}")
    if found and found.missing:
        notes.append(f"{arm.label}: {found.paired_n} pairs compared, {found.missing} missing on one side.")
    if arm.beyond is not None:
        notes.append(f"{arm.label}: {beyond_sentence(arm.beyond)}")
    elif found and arm.role == "steered":
        notes.append(
            f"{arm.label}: no random direction stands beside it: whether any edit of this size would do the same is open."
        )
    if gap and gap.reason:
        notes.append(f"{arm.label}: the gap recovered is not defined: {gap.reason}.")
    return notes
