"""The wheel alone, away from the checkout: it holds everything that the commands, the built-in models and the app's pages read.

STEERING_WHEEL_DEMO=1 runs the demo from it too, a minute and a half.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COPIED = ("steering", "saes", "probes", "experiments", "app", "pyproject.toml", "README.md", "LICENSE")
Run = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, so that the checkout stays as it is."""
    place = tmp_path_factory.mktemp("wheel")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy(source, place / "source" / name)
    return place


@pytest.fixture(scope="module")
def wheel(place: Path) -> Path:
    """Built from the copy."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(place / "dist"),
        ".",
    ]
    done = subprocess.run(command, cwd=place / "source", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = (place / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def run(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A Python that finds the unpacked wheel and not the checkout."""
    place = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(place / "site")
    (place / "elsewhere").mkdir()

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words], cwd=place / "elsewhere", capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(place / "site"), "PYTHONSAFEPATH": "1"},
        )  # fmt: skip

    where = call("-c", "import experiments, app, steering, saes, probes; print(experiments.__file__)").stdout
    assert str(place / "site") in where, where
    return call


def test_it_holds_what_is_read_and_nothing_of_the_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "steering/builtin/base/model.safetensors", "app/components/live/live.js", "app/.streamlit/config.toml",
        "experiments/report/report.css",
        "experiments/traces/web/trace.css", "experiments/studies/elicitation/shipped/reinforced.json", "steering/py.typed",
        "experiments/studies/hybrid/shipped/careful.json",
    ):  # fmt: skip
        assert wanted in names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "benchmarks/", "notebooks/"))]
    kept = {
        path.relative_to(ROOT).as_posix() for room in COPIED[:5] for path in (ROOT / room).rglob("*") if path.is_file()
    }
    beside = (".md", ".pyc")
    lost = [name for name in sorted(kept - set(names)) if "__pycache__" not in name and not name.endswith(beside)]
    assert not [name for name in lost if "/specs/" not in name], lost


def test_a_steered_text_and_the_cards_come_from_it(run: Run, tmp_path: Path) -> None:
    assert "Extract, apply and measure steering" in run("-m", "experiments.commands.cli", "--help").stdout
    vector = run(
        "-c", "import steering; print(steering.__path__[0] + '/builtin/vectors/think-first.safetensors')"
    ).stdout.strip()
    words = (
        "generate",
        "--prompt",
        "start 3 7 ?",
        "--plan",
        f"add {vector} 1v on last_prompt",
        "--max-new-tokens",
        "8",
        "--json",
    )
    done = run("-m", "experiments.commands.cli", *words)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [one["edits_fired"] for one in json.loads(done.stdout)] == [0, 1]
    if os.environ.get("STEERING_WHEEL_DEMO"):
        sizes = ("--n", "2", "--n-dev", "2", "--runs", str(tmp_path / "runs"))
        done = run("-m", "experiments.commands.cli", "demo", *sizes, "--json")
        assert done.returncode == 0 and json.loads(done.stdout)["choice"]["tried"] >= 32, done.stderr[-2000:]
    listed = run("-m", "experiments.commands.cli", "train", "list", "--json")
    assert listed.returncode == 0 and len(json.loads(listed.stdout)) > 10


def test_the_apps_pages_open_from_it(run: Run, tmp_path: Path) -> None:
    code = (
        f"import os, pathlib; os.environ['STEERING_RUNS'] = '{tmp_path}'\n"
        "from streamlit.testing.v1 import AppTest\nimport app.main\n"
        "main = str(pathlib.Path(app.main.__file__))\n"
        "for page in (None, 'playground', 'elicitation', 'features', 'make_vector', 'monitor', 'jobs'):\n"
        "    found = AppTest.from_file(main, default_timeout=60)\n"
        "    page and found.switch_page('app_pages/' + page + '.py')\n"
        "    found.run()\n"
        "    assert not found.exception, (page, found.exception)\n"
        "print('opened')\n"
    )
    done = run("-c", code)
    assert done.returncode == 0 and "opened" in done.stdout, done.stderr[-2000:]


def test_the_source_archive_holds_what_the_wheel_does(place: Path, wheel: Path) -> None:
    code = "import setuptools.build_meta as b; print(b.build_sdist('../dist'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=place / "source", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = (place / "dist").glob("*.tar.gz")
    with tarfile.open(found) as packed:
        held = {name.partition("/")[2] for name in packed.getnames()}
    read = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert not read - held
    assert {"pyproject.toml", "README.md", "PKG-INFO"} <= held
