"""The project's own shape: imports go one way, and the page process never loads torch."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent


def test_imports_go_one_way() -> None:
    allowed = {
        "steering": {"steering"},
        "saes": {"saes", "steering"},
        "probes": {"probes", "steering"},
        "experiments": {"experiments", "saes", "probes", "steering"},
        "app": {"app", "experiments", "saes", "probes", "steering"},
    }
    for room, may in allowed.items():
        for file in (ROOT / room).rglob("*.py"):
            named = set(
                re.findall(r"^\s*(?:from|import) (steering|saes|probes|experiments|app)\b", file.read_text(), re.M)
            )
            assert named <= may, f"{file} imports {named - may}"


def test_reading_runs_does_not_load_torch() -> None:
    read = "experiments.store.runs, experiments.evaluation.summary, experiments.traces, app.pairing, app.library"
    code = f"import sys, {read}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_papers_of_the_repository_agree_with_each_other() -> None:
    """Version, licence, changelog and issue forms: what a release would carry."""
    facts = tomllib.loads((ROOT / "pyproject.toml").read_text())
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == facts["project"]["version"] and citation["license"] == facts["project"]["license"]
    heads = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert heads[0] == "Unreleased" and all(
        re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", head) for head in heads[1:]
    )
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        assert {"name", "description", "body"} <= yaml.safe_load(form.read_text()).keys()
    for page in ("README.md", "CONTRIBUTING.md", "SECURITY.md"):
        text = (ROOT / page).read_text()
        missing = [link for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) if not (ROOT / link).exists()]
        assert not missing, f"{page} links to {missing}"
    for room in ("steering", "saes", "probes", "experiments", "app"):
        assert (ROOT / room / "py.typed").is_file()
