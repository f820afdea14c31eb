"""What a vector's quality report says, read without a model library: whether it is stable, and whether it separates texts held out."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

SUFFIX = ".quality.json"
READ = "On"
"""How the words of a report begin that could be read."""
UNKNOWN = (
    "No report of its quality lies beside its file: whether it separates texts that it was not made from is not known."
)


def quality_words(vector: Path, digest: str) -> tuple[str, list[str]]:
    """A sentence, and the report's own remarks; that there is none, where there is none that is this vector's."""
    path = vector.with_name(vector.name.removesuffix(".safetensors") + SUFFIX)
    try:
        stored = json.loads(path.read_bytes())
        if stored["vector"] != digest:
            return f"{path.name} is the report of another vector ({stored['vector']}): measure this one again.", []
        report = stored["report"]
        parts = report["separability"], report["split_half"]
        words = (
            f"{READ} {stored['held_out'][0]} and {stored['held_out'][1]} texts held out it ranks a wanted one above another with "
            "probability "
            f"{_interval(parts[0]['auc'])}; directions of two halves of its texts have a cosine of {_number(parts[1]['mean'])} "
            f"({_number(parts[1]['low'])} to {_number(parts[1]['high'])}); its length is {_number(report['norm_ratio'])} of the residual "
            f"stream's. The tokens alone, without a model, would tell {_percent(report['token_accuracy'])} of those apart (chance: 50 %). "
            "None of this says that it steers."
        )
        return words, [str(remark) for remark in report["remarks"]]
    except FileNotFoundError:
        return UNKNOWN, []
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        return f"{path.name} cannot be read ({str(error)[:120]}): its quality is not known.", []


def is_report(words: str) -> bool:
    """Whether the words are those of a report, and not why there is none."""
    return words.startswith(f"{READ} ")


def _interval(entry: Any) -> str:
    low, high = (entry[name] for name in ("low", "high"))
    return f"{_number(entry.get('estimate', entry.get('value')))} ({_number(low)} to {_number(high)})"


def _number(value: Any) -> str:
    number = float("nan") if value is None else float(value)
    return f"{number:.2f}" if math.isfinite(number) else "not known"


def _percent(value: Any) -> str:
    number = float("nan") if value is None else float(value)
    return f"{100 * number:.0f} %" if math.isfinite(number) else "an unknown share"
