"""Whether this machine's memory is short."""

from __future__ import annotations

from pathlib import Path

SHARE = 0.25
"""Of the memory: with less available, models are let go before a command loads its own."""
_FACTS = Path("/proc/meminfo")


def is_short(facts: Path = _FACTS) -> bool:
    """Whether less than `SHARE` of the memory is available; true where the system does not say."""
    try:
        lines = dict(line.split(":", 1) for line in facts.read_text().splitlines() if ":" in line)
        total, available = (int(lines[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError, IndexError):
        return True
    return available < SHARE * total
