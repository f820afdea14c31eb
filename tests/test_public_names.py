"""The public face: the documented names are there, they load no model library until used, and nothing else is offered."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("steering", "saes", "probes")


def documented(package: str) -> set[str]:
    """The names in the first column of a package's table in docs/python.md."""
    page = (ROOT / "docs" / "python.md").read_text()
    table = page[page.index(f"| `{package}.` |") :].split("\n\n")[0].splitlines()[2:]
    return {name for line in table for name in re.findall(r"`([A-Za-z_]+)`", line.split("|")[1])}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_documented_names_are_the_offered_ones(package: str) -> None:
    module = importlib.import_module(package)
    assert documented(package) == set(module.__all__)
    for name in module.__all__:
        assert getattr(module, name).__doc__, f"{package}.{name} says what it is"
        assert name in dir(module)
    with pytest.raises(AttributeError, match="it offers"):
        module.nothing_of_that_name  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_no_model_library(package: str) -> None:
    code = f"import sys, {package}; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'sae_lens', 'sklearn')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_example_of_the_page_runs_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    monkeypatch.chdir(tmp_path)
    exec(page[page.index("```python") + 9 :].split("```")[0], {})
    assert "fired=1" in capsys.readouterr().out
