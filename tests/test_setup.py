"""Setting up says how far it is, in the words of pip's own output."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[1] / ".ci" / "install"


@pytest.fixture(scope="module")
def setup() -> Any:
    loader = importlib.machinery.SourceFileLoader("ci_install", str(FILE))
    spec = importlib.util.spec_from_loader("ci_install", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_each_package_is_counted_and_large_downloads_are_named(setup: Any) -> None:
    said = [
        "Looking in indexes: somewhere",
        "Collecting numpy==2.4.6 (from -r requirements.lock (line 1))", "  Using cached numpy.whl (1.0 MB)",
        "Collecting torch==2.13.0 (from -r requirements.lock (line 2))",
        "  Downloading torch-2.13.0-cp311-manylinux.whl (201.5 MB)", "Installing collected packages: numpy, torch",
        "Successfully installed",
    ]  # fmt: skip
    assert list(setup.told(said, 2)) == [
        "  1 of 2 packages: numpy==2.4.6", "  2 of 2 packages: torch==2.13.0", "  2 of 2 packages: downloads torch, 201.5 MB",
        "2 of 2 packages are here; putting them in place, about a minute",
    ]  # fmt: skip


def test_packages_of_the_lock_are_counted_without_hashes_and_comments(setup: Any) -> None:
    assert setup.packages("# a\nnumpy==1\n    --hash=sha256:x\n\ntorch==2\n") == 2
    lock = (FILE.parents[1] / "requirements.lock").read_text()
    assert setup.packages(lock) > 150


def test_a_failing_installer_ends_with_a_sentence(setup: Any, tmp_path: Path) -> None:
    false = tmp_path / "python"
    false.write_text("#!/bin/sh\nexit 3\n")
    false.chmod(0o755)
    with pytest.raises(SystemExit, match="ended with 3"):
        setup.install(false, 2)


def test_every_locked_version_has_the_hashes_of_its_files() -> None:
    root = FILE.parents[1]
    locked = {line for line in (root / "requirements.lock").read_text().splitlines() if "==" in line}
    blocks = re.split(r"\n(?=[A-Za-z0-9])", (root / "requirements.hashes").read_text())[1:]
    named = {block.split(" ", 1)[0] for block in blocks}
    assert named == locked
    for block in blocks:
        assert re.fullmatch(r"\S+==\S+( \\\n    --hash=sha256:[0-9a-f]{64})+\n?", block), block[:80]
