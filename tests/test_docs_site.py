"""The docs site builds strictly and without a network, its links lead somewhere, and it holds every public function, verb and error."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("steering", "saes", "probes", "experiments")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@cache
def page(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    from_elsewhere = r"(?:https?:)?//"
    loaded = re.compile(
        rf'<(?:script|img|iframe)[^>]+src="{from_elsewhere}|<link[^>]+rel="(?:stylesheet|preload|preconnect)"[^>]*href="{from_elsewhere}'
    )
    assert not [path.name for path in site.rglob("*.html") if loaded.search(page(path))]
    assert not [path.name for path in site.rglob("*.css") if re.search(r"url\([\"']?(https?:)?//", page(path))]


def test_every_link_leads_to_a_page_and_a_place_on_it(site: Path) -> None:
    broken = []
    for path in site.rglob("*.html"):
        if path.name == "404.html":
            continue
        for target in re.findall(r"<a [^>]*href=\"([^\"]+)\"", page(path)):
            where, place = urldefrag(target)
            if re.match(r"[a-z]+:", where):
                continue
            found = path if not where else (path.parent / unquote(where)).resolve()
            found = found / "index.html" if found.is_dir() else found
            if not found.is_file():
                broken.append(f"{path.relative_to(site)}: {target}")
            elif place and found.suffix == ".html" and f'id="{unquote(place)}"' not in page(found):
                broken.append(f"{path.relative_to(site)}: {target} (no such place)")
    assert not broken, broken[:20]


def public(path: Path) -> list[str]:
    """Names of a module's public functions and classes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [
        node.name
        for node in tree.body
        if isinstance(node, kinds) and not node.name.startswith("_") and ast.get_docstring(node)
    ]


def test_every_public_function_is_in_the_reference(site: Path) -> None:
    held = "".join(page(path) for path in (site / "reference").glob("*.html"))
    missing, count = [], 0
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if path.name == "__init__.py" or {"commands", "builtin", "specs", "web", "data"} & set(parts):
                continue
            for name in public(path):
                count += 1
                if f'id="{".".join(parts)}.{name}"' not in held:
                    missing.append(".".join((*parts, name)))
    assert count > 1000 and not missing, missing[:20]


def test_every_verb_and_every_error_has_its_place(site: Path) -> None:
    from typer.main import get_command

    from experiments.commands.cli import app

    verbs = page(site / "reference" / "commands.html")
    command = get_command(app)
    names = command.list_commands(command.make_context("steer", [], resilient_parsing=True))  # type: ignore[attr-defined]
    assert len(names) > 20 and not [name for name in names if f'id="steer-{name}"' not in verbs]
    said = page(site / "errors.html")
    raised = [
        ".".join((*path.relative_to(ROOT).with_suffix("").parts, name))
        for package in (*PACKAGES, "app")
        for path in sorted((ROOT / package).rglob("*.py"))
        for name, bases in re.findall(r"^class ([A-Z]\w+)\((\w+)\)", path.read_text(encoding="utf-8"), re.MULTILINE)
        if bases.endswith(("Error", "Exception", "Refused", "BadInput"))
    ]
    assert len(raised) > 12 and not [name for name in raised if name not in said], raised


def test_every_notebook_is_a_tutorial(site: Path) -> None:
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert len(notebooks) > 8 and {path.stem for path in (site / "tutorials").glob("*.html")} == {*notebooks, "index"}
    said = page(site / "tutorials" / "probes_and_gates.html")
    assert "AUROC 1.000" in said and "data:image" in page(site / "tutorials" / "feature_ablation.html")


def test_the_list_for_language_models_names_every_written_page(site: Path) -> None:
    said = page(site / "llms.txt")
    written = [
        path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in (ROOT / "docs").rglob("*.md")
    ]
    assert len(written) > 50 and not [name for name in written if f"]({name})" not in said]
