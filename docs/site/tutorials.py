"""The notebooks as pages: their text, their code, and what it printed when they were run."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ORDER = (
    "quickstart", "first_vector_on_a_language_model", "base_against_thinking", "sweeps_and_statistics", "hybrid_and_decision_tokens",
    "feature_ablation", "probes_and_gates", "elicitation_table", "bring_your_own_model", "exchange",
)  # fmt: skip
"""In which they are read; those that are not named come behind."""


def notebooks() -> list[Path]:
    """Every notebook, in order."""
    found = sorted((ROOT / "notebooks").glob("*.ipynb"))
    return sorted(found, key=lambda path: ORDER.index(path.stem) if path.stem in ORDER else len(ORDER))


def tutorials() -> dict[str, str]:
    """The pages, by where they lie."""
    pages = {f"tutorials/{path.stem}.md": page(path) for path in notebooks()}
    about = "Executed notebooks (`notebooks/`), offline, each in a few minutes on two cores; the tests run them again."
    index = ["# Tutorials", "", about, ""]
    for name, text in pages.items():
        paragraph = next((part for part in text.split("\n\n") if part[:1].isalpha()), "")
        said = re.split(r"(?<=[.!?])\s", " ".join(paragraph.split()), maxsplit=1)[0]
        index.append(f"* [{title(text)}]({name.rpartition('/')[2]}): {said}")
    return {"tutorials/index.md": "\n".join(index) + "\n", **pages}


def title(text: str) -> str:
    """The first heading of a page."""
    return next(line[2:] for line in text.splitlines() if line.startswith("# "))


def page(path: Path) -> str:
    """A notebook as Markdown."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            text = re.sub(r"^\[!\[.*$\n?", "", source, flags=re.MULTILINE)  # badges are pictures from elsewhere
            parts.append(text.replace("](../docs/", "](../"))
        elif cell["cell_type"] == "code" and source.strip():
            parts.append(f"```python\n{source}\n```")
            parts += [shown for output in cell.get("outputs", []) if (shown := _shown(output))]
    parts.append(f"The notebook itself is `notebooks/{path.name}`.")
    return "\n\n".join(parts) + "\n"


def _shown(output: dict[str, Any]) -> str:
    """What a cell gave: a picture, or its text."""
    data = output.get("data", {})
    if "image/png" in data:
        return f"![figure](data:image/png;base64,{''.join(data['image/png']).strip()})"
    if "image/svg+xml" in data:
        drawn = base64.b64encode("".join(data["image/svg+xml"]).encode()).decode()
        return f"![figure](data:image/svg+xml;base64,{drawn})"
    if any(kind.startswith("application/vnd.plotly") for kind in data):
        return "*An interactive figure, in the notebook.*"
    text = "".join(data.get("text/markdown") or output.get("text") or data.get("text/plain") or "").rstrip()
    return f"~~~~text\n{text}\n~~~~" if text else ""
