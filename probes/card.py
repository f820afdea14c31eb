"""The card of a probe's repository: front matter for the hub's search, what it reads, how well it did, and how it is used.

Names of others are escaped. A probe without a measurement on held-out groups says so.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from steering.vector.hub.card import front
from steering.vector.hub.contents import CONFIG
from steering.vector.hub.hashed import HashedConfig
from steering.vector.hub.hashed_card import facts_list, loads
from steering.vector.hub.markdown import line, plain

from .measures import FEWEST

TAG = "activation-probe"
NOT_MEASURED = "**No measurement is attached: how well it reads anything is not shown.**"

NONE = "no interval"
NO_INTERVAL = (
    f"A measure has no interval where its rarest class has fewer than {FEWEST} held-out groups: resamples of so few say little "
    "of others."
)

CALLED = {
    "auroc": "AUROC",
    "selectivity": "AUROC beyond that of probes fitted on shuffled labels",
    "tokens": "AUROC beyond that of the token ids near the position",
    "ece": "expected calibration error",
    "brier": "Brier score",
}
"""Measures in words; a difference whose interval holds 0 says that the control does as well."""


def probe_card(repository: str, config: HashedConfig) -> str:
    """`README.md` of a probe's repository."""
    facts = config.facts
    rows = [
        line([plain(CALLED.get(name, name.replace("_", " "))), _cell(value)])
        for name, value in facts["held_out"].items()
    ]
    table = "\n".join([line(["held out", "value, 95 % interval"]), line(["---"] * 2), *rows]) if rows else NOT_MEASURED
    counted = f"fitted on {facts['train']} of {facts['train_groups']} groups, measured on {facts['test']} of {facts['test_groups']} others"
    more = {
        "Classes": ", ".join(map(plain, facts["classes"])),
        "Samples": counted if facts["train"] else "not said",
        "Digest": f"`{config.digest}`",
    }
    parts = [
        f"---\n{front(config.base_model, config.licence, config.arxiv, TAG)}---",
        f"# {plain(config.name)}",
        f"A {plain(facts['kind'])} probe: it reads {_target(facts)} from the activations of a language model.",
        facts_list(config, more),
        "## How well it reads",
        table,
        NO_INTERVAL if NONE in table else "",
        "These numbers are the author's own; pulling the probe does not repeat them." if rows else "",
        "## How to use it",
        f"""```sh
steer probe pull {repository} --out probe.safetensors
steer monitor --model {loads(config)} --text 'TEXT' --probe hub:{repository}
```

```python
from probes import pull_probe

probe = pull_probe("{repository}")  # of one commit, checked against its {CONFIG}
```""",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _target(facts: dict[str, Any]) -> str:
    """What is read; a file's name says nothing, so that then the classes are named."""
    target = str(facts["target"])
    if target and not Path(target).suffix:
        return plain(target)
    return f"which of its classes a token's activation is of ({', '.join(map(plain, facts['classes']))})"


def _cell(value: Any) -> str:
    if not isinstance(value, dict) or not isinstance(value.get("value"), int | float):
        return "not defined"
    low, high = value.get("low"), value.get("high")
    known = all(isinstance(bound, int | float) and math.isfinite(bound) for bound in (low, high))
    return f"{value['value']:.3g} ({low:.3g} to {high:.3g})" if known else f"{value['value']:.3g}, {NONE}"
