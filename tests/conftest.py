"""Shared by several rooms: one small run of the real demo on the shipped pair."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import typer.testing

typer.main.get_command = typer.testing._get_command = functools.cache(typer.main.get_command)
"""The command line is built once per process, not once per call: a tenth of a second each."""


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple]:
    """The store folder, and what `run_demo` returned."""
    from rich.console import Console

    from experiments.store.runs import Store
    from experiments.studies.demo import run_demo

    root = tmp_path_factory.mktemp("demo")
    return root, run_demo(Store(root), **DEMO_SIZES, console=Console(quiet=True))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of published files, which lies beside the project and is no part of it."""
    folder = (Path(__file__).parents[1] / "../shared/data").resolve()
    if not folder.is_dir():
        pytest.skip("../shared/data is not here: the published files are not part of the project")
    return folder


@pytest.fixture(scope="session")
def smollm2() -> Any:
    """SmolLM2-135M-Instruct in float32, for tests marked `language`."""
    from steering.model.cached import is_whole
    from steering.model.models import load_model
    from steering.model.named import named_place

    if not is_whole(named_place("smollm2")):
        pytest.skip("SmolLM2 is not in the cache; run: make language")
    return load_model("smollm2")


DEMO_SIZES = {"n": 24, "n_dev": 16, "n_behaviour": 32}


LONG = (
    *("test_hybrid", "test_pair_training", "test_demo", "test_sweeps", "test_documented_examples", "test_sae_commands"),
    *(
        "test_evaluation",
        "test_language_model",
        "test_labels",
        "test_language",
        "test_compiled",
        "test_hostile_answers",
    ),
    *(
        "test_hybrid_on_a_data_set",
        "test_text_autoencoder",
        "test_short_families",
        "test_row_behaviours",
        "test_layer_choice",
    ),
    *("test_elicitation", "test_elicitation_traces", "test_audit", "test_decoders"),
    *("test_language_study", "test_any_task", "test_contrasts", "test_real_pairs", "test_gguf_models"),
)
"""Modules that take longest: they come first, so that workers which take whole modules end at about the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where browser tests alone are asked for, modules that do not name the mark are not imported."""
    module = collection_path.suffix == ".py" and collection_path.name.startswith("test_")
    if config.option.markexpr == "browser" and module and "mark.browser" not in collection_path.read_text():
        return True
    return None


def find_chromium() -> str | None:
    """A Chromium executable, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running Chromium. Without one the browser tests are skipped on a developer's machine and fail in CI."""
    from playwright import sync_api

    executable = find_chromium()
    if executable is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "no Chromium found: install one (Debian: apt-get install chromium) or name it in CHROMIUM"
        )
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()
