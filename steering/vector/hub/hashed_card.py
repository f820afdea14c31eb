"""Cards of plans and probes: front matter for the hub's search, what it is, what it was seen to do, and how it is used.

Names and sentences of others are escaped. What is not known is said.
"""

from __future__ import annotations

import re
from typing import Any

from .card import base_in_words, front
from .contents import CONFIG, UNKNOWN, Evidence
from .evidence_table import shown
from .hashed import VECTORS, HashedConfig
from .markdown import code, line, plain, word

PLAN_TAG, PROBE_TAG = "steering-plan", "activation-probe"
NOT_MEASURED = "**No measurement is attached: how well it reads anything is not shown.**"


def plan_card(repository: str, config: HashedConfig, evidence: Evidence, text: str) -> str:
    """`README.md` of a plan's repository; `text` is its plan.yaml."""
    facts = config.facts
    rows = [
        line(
            [
                f"`{one['digest']}`",
                plain(one["name"]),
                f"`{one['site']}`",
                plain(one["method"]),
                plain(one["contrast"]) or "not said",
            ]
        )
        for one in facts["vectors"]
    ]
    parts = [
        f"---\n{front(config.base_model, config.licence, config.arxiv, PLAN_TAG)}---",
        f"# {plain(config.name)}",
        "A steering plan: which directions are added to, or taken from, the activations of a language model, where, and how strongly.",
        _facts(config, {"Steps": str(facts["steps"]), "Digest": f"`{config.digest}`"}),
        "## What it does",
        shown(evidence, "plan"),
        "## The plan",
        f"```yaml\n{_fenced(text)}\n```",
        "\n".join([line(["vector", "name", "site", "method", "contrast"]), line(["---"] * 5), *rows]),
        "## How to use it",
        f"""```sh
steer generate --model {_model(config)} --prompt 'PROMPT' --plan hub:{repository}
steer plan pull {repository} --out FOLDER
```

```python
from steering import pull_plan

plan = pull_plan("{repository}")  # of one commit, every file checked against its {CONFIG}
```""",
        f"`{CONFIG}` holds the sha256 of every other file; the vectors lie in `{VECTORS}`, as safetensors.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def probe_card(repository: str, config: HashedConfig) -> str:
    """`README.md` of a probe's repository."""
    facts = config.facts
    rows = [line([plain(name.replace("_", " ")), _cell(value)]) for name, value in facts["held_out"].items()]
    table = "\n".join([line(["held out", "value, 95 % interval"]), line(["---"] * 2), *rows]) if rows else NOT_MEASURED
    counted = f"fitted on {facts['train']} of {facts['train_groups']} groups, measured on {facts['test']} of {facts['test_groups']} others"
    more = {
        "Classes": ", ".join(map(plain, facts["classes"])),
        "Samples": counted if facts["train"] else "not said",
        "Digest": f"`{config.digest}`",
    }
    parts = [
        f"---\n{front(config.base_model, config.licence, config.arxiv, PROBE_TAG)}---",
        f"# {plain(config.name)}",
        f"A {plain(facts['kind'])} probe: it reads {plain(facts['target']) or 'a class'} from the activations of a language model.",
        _facts(config, more),
        "## How well it reads",
        table,
        "These numbers are the author's own; pulling the probe does not repeat them." if rows else "",
        "## How to use it",
        f"""```sh
steer probe pull {repository} --out probe.safetensors
steer monitor --model {_model(config)} --text 'TEXT' --probe hub:{repository}
```

```python
from probes import pull_probe

probe = pull_probe("{repository}")  # of one commit, checked against its {CONFIG}
```""",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _facts(config: HashedConfig, more: dict[str, str]) -> str:
    base = config.base_model
    facts = {
        "Sites": ", ".join(f"`{code(site)}`" for site in config.sites)
        + "; layers are counted from 0 (TransformerLens names)",
        "Base model": base_in_words(base, config.kind),
        "Weights": f"fingerprint `{base.fingerprint}`" if base.fingerprint != UNKNOWN else "fingerprint unknown",
        "Tokenizer and template": f"hash `{base.tokenizer}`" if base.tokenizer != UNKNOWN else "hash unknown",
        **more,
        "Licence": plain(config.licence) or "none is stated",
        "Papers": ", ".join(f"[arXiv:{paper}](https://arxiv.org/abs/{paper})" for paper in config.arxiv),
    }
    return "\n".join(f"* **{name}**: {text}" for name, text in facts.items() if text)


def _model(config: HashedConfig) -> str:
    base = config.base_model.id
    return "MODEL" if base == UNKNOWN else word(base)


def _cell(value: Any) -> str:
    if not isinstance(value, dict) or not isinstance(value.get("value"), int | float):
        return "not defined"
    low, high = value.get("low"), value.get("high")
    known = isinstance(low, int | float) and isinstance(high, int | float)
    return f"{value['value']:.3g} ({low:.3g} to {high:.3g})" if known else f"{value['value']:.3g}"


def _fenced(text: str) -> str:
    """A file between fences, which it cannot close."""
    return re.sub(r"`{3,}", "'" * 3, text).rstrip()
