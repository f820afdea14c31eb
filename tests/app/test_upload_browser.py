"""Files of one name given by two browsers at once, through the page: each is stored, imported and offered for its own browser alone."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from steering.model.sites import Site
from steering.vector.interchange import export_gguf
from steering.vector.vectors import Provenance, SteeringVector

pytestmark = pytest.mark.browser
NAMES = ("of-the-first", "of-the-second")


@pytest.fixture(scope="module")
def served(serve: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server whose uploads lie in a folder of the test."""
    folder, before = tmp_path_factory.mktemp("uploads"), os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield serve(tmp_path_factory.mktemp("uploading")), folder
    finally:
        os.environ.pop("TMPDIR")
        if before is not None:
            os.environ["TMPDIR"] = before


def control_vector(folder: Path, number: int) -> Path:
    """A control-vector file named as everybody's is, with a direction of its own."""
    direction = torch.randn(128, generator=torch.Generator().manual_seed(number))
    vector = SteeringVector(NAMES[number], Site(1), direction, Provenance("test", "none"))
    (folder / str(number)).mkdir()
    return export_gguf([vector], folder / str(number) / "control.gguf", layers="llama.cpp", model_hint="llama")


def test_two_browsers_that_import_files_of_one_name_at_once_get_their_own(
    served: tuple[str, Path], open_page: Callable[..., Any], tmp_path: Path
) -> None:
    url, folder = served
    files = [control_vector(tmp_path, number) for number in range(2)]
    pages = [open_page(f"{url}/playground") for _ in files]
    for watched in pages:
        watched.page.get_by_role("button", name="Add a file").click()
        watched.page.locator(".st-key-pg_upload input[type=file]").wait_for(state="attached")
    for watched, file in zip(pages, files, strict=True):
        watched.page.locator(".st-key-pg_upload input[type=file]").set_input_files(str(file))
    for watched in pages:
        watched.page.locator(".st-key-pg_import button").wait_for()
    for watched in pages:
        watched.page.locator(".st-key-pg_import button").click()
        watched.page.get_by_text("Being imported, as a job").wait_for(timeout=30_000)
    for watched in pages:  # the page that asked lists its job, and is drawn again when all have ended
        watched.page.get_by_role("link", name=re.compile("running|queued")).wait_for(timeout=30_000)
    deadline = time.monotonic() + 120
    while len(stored := sorted(folder.glob("steering-uploads-*/*/*/*.safetensors"))) < len(files):
        assert time.monotonic() < deadline, f"of {len(files)} imports only {stored} were stored within two minutes"
        pages[0].page.wait_for_timeout(200)
    for watched in pages:
        watched.page.get_by_role("link", name="no jobs").wait_for(timeout=60_000)
    assert sorted(SteeringVector.load(path).name for path in stored) == list(NAMES)
    assert len({path.parents[1] for path in stored}) == len({path.parent for path in stored}) == 2
    for number, watched in enumerate(pages):
        watched.page.goto(f"{url}/vectors")
        watched.settle()
        choice = watched.page.get_by_role("combobox").first
        choice.click()
        offered = "\n".join(watched.page.get_by_role("option").all_inner_texts())
        assert NAMES[number] in offered and NAMES[1 - number] not in offered
