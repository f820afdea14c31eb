"""The table of architectures that the tests run over, made from the tests: `python -m tests.architectures` writes docs/architectures.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from steering.model.models import LoadedModel
from tests.tiny import CONFIGS, tiny

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architectures.md"
HEAD = """# Architectures

Every architecture here is a tiny random model that is made in code, on which the tests compare sites, edits and texts with naive ones.
Any other decoder-only model of `transformers` loads by the same path: its layers and sites are found, and tried by a short text, when it
does (`steer doctor MODEL`); what cannot be served is refused with the reason. This page is made from the tests
(`python -m tests.architectures`).

| family | class of `transformers` | positions | heads, of keys and values | layers see | sites |
|---|---|---|---|---|---|
"""


def suites() -> dict[str, list[str]]:
    """Per family, the tests that run over it, as `file::test`."""
    found: dict[str, list[str]] = {family: [] for family in CONFIGS}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef):
                continue
            for mark in node.decorator_list:
                text = ast.unparse(mark)
                if text.startswith("pytest.mark.parametrize('family'") and "CONFIGS" in text:
                    own = set(CONFIGS) - _left_out(path, text)
                    for family in own:
                        found[family].append(f"{path.relative_to(ROOT)}::{node.name}")
    return found


def _left_out(path: Path, mark: str) -> set[str]:
    """Families that a mark takes away: `set(CONFIGS) - NAME`, where the module says what NAME is."""
    names = re.findall(r"set\(CONFIGS\) - ([A-Z_]+|\{[^}]*\})", mark)
    text, gone = path.read_text(encoding="utf-8"), set()
    for name in names:
        written = name if name.startswith("{") else next(iter(re.findall(rf"^{name} = (.+)$", text, re.M)), "set()")
        gone |= set(re.findall(r"[\"']([a-z0-9_]+)[\"']", written))
    return gone


def line(family: str, loaded: LoadedModel) -> str:
    """One row of the table."""
    config = loaded.model.config.get_text_config()
    heads = config.num_attention_heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    window = bool(getattr(config, "sliding_window", None))
    types = set(getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"])
    near = {"sliding_attention": "a window", "chunked_attention": "a chunk"}
    seen = [near[one] for one in sorted(types) if one in near] + (["everything"] if "full_attention" in types else [])
    places = "learned" if family == "gpt2" else "rotary"
    kinds = loaded.layout.kinds(1)
    return f"| {family} | `{type(loaded.model).__name__}` | {places} | {heads}, {shared} | {', '.join(seen)} | {', '.join(kinds)} |"


def page() -> str:
    """The page's text."""
    lines = [line(family, tiny(family)) for family in sorted(CONFIGS)]
    found = suites()
    every = sorted(set.intersection(*(set(own) for own in found.values())))
    text = (
        HEAD
        + "\n".join(lines)
        + f"\n\n## Tests that run over each of them\n\n{len(every)} tests run over every family:\n\n"
    )
    text += "\n".join(f"* `{name}`" for name in every)
    some = {name for own in found.values() for name in own} - set(every)
    text += f"\n\n{len(some)} run over those that have what they are about:\n\n"
    for name in sorted(some):
        own = ", ".join(family for family in sorted(CONFIGS) if name in found[family])
        text += f"* `{name}`: {own}\n"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
