"""What the docs site has beside its written pages: the tutorials, every command with its options, and every public function.

Pages are made when the site is built. Nothing of the program is run but its command line's own description, which imports no model library.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
from tutorials import notebooks, tutorials

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "steering": "vectors, plans, the engine",
    "saes": "sparse autoencoders",
    "probes": "probes, labels, forks",
    "experiments": "evaluations, sweeps, the store, statistics, studies",
}
LEFT_OUT = ("builtin", "commands", "specs", "web", "data")
"""Folders that hold no functions to call."""


def modules(package: str) -> list[str]:
    """Public modules of a package, by their dotted names."""
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if any(part in LEFT_OUT or (part.startswith("_") and part != "__init__") for part in parts):
            continue
        if parts[-1] != "__init__":
            found.append(".".join(parts))
    return found


def rooms(package: str) -> dict[str, list[str]]:
    """The modules of a package by the room that they stand in; those of none under the package's own name."""
    found: dict[str, list[str]] = {}
    for name in modules(package):
        parts = name.split(".")
        found.setdefault(".".join(parts[:2]) if len(parts) > 2 else package, []).append(name)
    return found


def commands() -> str:
    """Every verb with its help, arguments and options, as Markdown."""
    from experiments.commands.cli import app

    lines = [
        "# Every command",
        "",
        "Made from the program's own descriptions; [Commands](../commands.md) has an example of each.",
        "",
    ]
    _walk(typer.main.get_command(app), ("steer",), lines)
    return "\n".join(lines) + "\n"


def _walk(command: Any, words: tuple[str, ...], lines: list[str]) -> None:
    context = command.make_context(words[-1], [], resilient_parsing=True)
    if len(words) > 1:
        help_text = " ".join(str(command.help or "").split())
        lines.extend([f"{'#' * min(len(words), 3)} {' '.join(words)}", "", help_text, ""])
    below = getattr(command, "commands", None)
    if below is not None:
        for name in command.list_commands(context):
            _walk(command.get_command(context, name), (*words, name), lines)
        return
    rows = [row for parameter in command.params if (row := _row(parameter, context))]
    if rows:
        lines.extend(["| option | what it is |", "|---|---|", *rows, ""])


def _row(parameter: Any, context: Any) -> str:
    """A line of an option's or an argument's table."""
    record = parameter.get_help_record(context)
    name, said = record or (parameter.human_readable_name, getattr(parameter, "help", "") or "")
    shown = " ".join(str(said).split()).replace("|", "\\|").replace("<", "&lt;")
    return f"| `{str(name).strip().replace('|', chr(92) + '|')}` | {shown} |"


def made() -> dict[str, str]:
    """The made pages, by where they lie."""
    pages = {"reference/commands.md": commands(), **tutorials()}
    index = ["# Reference", "", "* [Every command](commands.md), with its options", ""]
    for package, about in PACKAGES.items():
        index += [f"## {package}", "", f"{about.capitalize()}.", ""]
        for room, names in rooms(package).items():
            pages[f"reference/{room}.md"] = f"# {room}\n\n" + "".join(f"::: {name}\n\n" for name in names)
            index.append(f"* [{room}]({room}.md): {', '.join(name.rpartition('.')[2] for name in names)}")
        index.append("")
    return pages | {"reference/index.md": "\n".join(index) + "\n"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the cards and the made pages into the menu."""
    cards = sorted(path.name for path in (ROOT / "docs" / "cards").glob("*.md") if path.stem not in ("index", "fields"))
    for entry in config.nav or []:
        if "Cards" in entry:
            entry["Cards"] = ["cards/index.md", {"Fields": "cards/fields.md"}, *(f"cards/{name}" for name in cards)]
        if "Tutorials" in entry:
            entry["Tutorials"] = ["tutorials/index.md", *(f"tutorials/{path.stem}.md" for path in notebooks())]
        if "Reference" in entry:
            own = [f"reference/{room}.md" for package in PACKAGES for room in rooms(package)]
            entry["Reference"] += ["reference/index.md", {"Every command": "reference/commands.md"}, *own]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the made pages."""
    for name, text in made().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_post_build(config: MkDocsConfig) -> None:
    """`llms.txt`: every written page with its first sentence."""
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", ""]
    for path in sorted((ROOT / "docs").rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        title = next((line[2:] for line in text.splitlines() if line.startswith("# ")), path.stem)
        said = next((line for line in text.splitlines() if line[:1].isalpha()), "")
        where = path.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        lines.append(f"- [{title}]({where}): {said[:200]}")
    (Path(config.site_dir) / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
