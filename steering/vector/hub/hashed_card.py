"""The card of a plan: front matter for the hub's search, what it is, what it was seen to do, and how it is used.

Names and sentences of others are escaped. What is not known is said.
"""

from __future__ import annotations

import re

from .card import base_in_words, front
from .contents import CONFIG, UNKNOWN
from .evidence import Evidence
from .evidence_table import shown
from .hashed import VECTORS, HashedConfig
from .markdown import code, line, plain, word

TAG = "steering-plan"


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
        f"---\n{front(config.base_model, config.licence, config.arxiv, TAG)}---",
        f"# {plain(config.name)}",
        "A steering plan: which directions are added to, or taken from, the activations of a language model, where, and how strongly.",
        facts_list(config, {"Steps": str(facts["steps"]), "Digest": f"`{config.digest}`"}),
        "## What it does",
        shown(evidence, "plan"),
        "## The plan",
        f"```yaml\n{_fenced(text)}\n```",
        "\n".join([line(["vector", "name", "site", "method", "contrast"]), line(["---"] * 5), *rows]),
        "## How to use it",
        f"""```sh
steer generate --model {loads(config)} --prompt 'PROMPT' --plan hub:{repository}
steer plan pull {repository} --out FOLDER
```

```python
from steering import pull_plan

plan = pull_plan("{repository}")  # of one commit, every file checked against its {CONFIG}
```""",
        f"`{CONFIG}` holds the sha256 of every other file; the vectors lie in `{VECTORS}`, as safetensors.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def facts_list(config: HashedConfig, more: dict[str, str]) -> str:
    """What is known of it, as a list; `more` stands before licence and papers."""
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


def loads(config: HashedConfig) -> str:
    """The base model's name in a command."""
    base = config.base_model.id
    return "MODEL" if base == UNKNOWN else word(base)


def _fenced(text: str) -> str:
    """A file between fences, which it cannot close."""
    return re.sub(r"`{3,}", "'" * 3, text).rstrip()
