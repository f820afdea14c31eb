"""Uploaded files: every browser's own, in places that cannot be guessed, and no more of them than there is room for."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from app import shelf as shelves
from app.shelf import clear, own_name, put, shelf, used
from app.vector_files import BUILT_IN, keep_upload, offered
from steering.errors import BadInput

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: Patch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_two_browsers_that_import_files_of_one_name_at_once_get_their_own() -> None:
    begin, found = threading.Barrier(16), {}

    def give(number: int) -> None:
        owner = f"token-{number % 2}"
        begin.wait()
        found[number] = put(shelf(owner), own_name("my vector.gguf"), f"{number}".encode() * 2000)

    threads = [threading.Thread(target=give, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found.values())) == 16
    for number, path in found.items():
        assert path.read_bytes() == f"{number}".encode() * 2000
        assert path.name == "my-vector.gguf"
        assert path.is_relative_to(shelf(f"token-{number % 2}"))


def test_equal_vectors_given_at_once_are_whole_for_both() -> None:
    data = (BUILT_IN / "think-first.safetensors").read_bytes()
    errors: list[Exception] = []

    def give(number: int) -> None:
        try:
            for _ in range(20):
                kept = keep_upload(data, "same.safetensors", shelf(f"token-{number % 2}"))
                assert kept.path.read_bytes() == data
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=give, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_shelf_is_seen_by_its_own_browser_alone(temporary: Path, monkeypatch: Patch) -> None:
    data = (BUILT_IN / "think-first.safetensors").read_bytes()
    monkeypatch.setattr("app.vector_files.SHIPPED", (temporary / "none",))
    keep_upload(data, "mine.safetensors", shelf("me"))
    put(shelf("me"), own_name("imported.safetensors"), (BUILT_IN / "checking.safetensors").read_bytes())
    assert [v.source for v in offered("none", shelf("me")).values()] == ["uploaded", "uploaded"]
    assert offered("none", shelf("you")) == {}
    assert offered("none") == {}
    assert "me" not in shelf("me").name
    assert shelf("me").stat().st_mode & 0o077 == 0
    assert own_name("a.gguf") != own_name("a.gguf")


@pytest.mark.parametrize(
    "name", ["../../x.gguf", "/etc/x.gguf", "a/b.gguf", ".gguf", "x" * 300 + ".gguf", "\x00.gguf", "ü .gguf"]
)
def test_a_readers_name_leads_nowhere_else(name: str) -> None:
    path = put(shelf("me"), own_name(name), b"x")
    assert path.resolve().is_relative_to(shelf("me").resolve())
    assert path.suffix == ".gguf"


def test_a_file_without_room_is_refused_before_it_is_written(monkeypatch: Patch) -> None:
    monkeypatch.setattr(shelves, "OWN", 1000)
    monkeypatch.setattr(shelves, "ALL", 2500)
    put(shelf("a"), "1", bytes(900))
    with pytest.raises(BadInput, match="Your uploaded files"):
        put(shelf("a"), "2", bytes(101))
    with pytest.raises(BadInput, match="Your uploaded files"):
        put(shelf("b"), "1", bytes(600), room=600)
    put(shelf("b"), "1", bytes(900))
    with pytest.raises(BadInput, match="of all browsers"):
        put(shelf("c"), "1", bytes(900))
    assert used(shelf("a")) == used(shelf("b")) == 900
    assert used(shelf("c")) == 0
    clear(shelf("a"))
    put(shelf("c"), "1", bytes(900))


def test_browsers_that_fill_their_shelves_at_once_do_not_pass_the_limit(monkeypatch: Patch) -> None:
    monkeypatch.setattr(shelves, "OWN", 10_000)
    refused = []

    def give(number: int) -> None:
        try:
            put(shelf("me"), f"{number}", bytes(1500))
        except BadInput:
            refused.append(number)

    threads = [threading.Thread(target=give, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert used(shelf("me")) == 9000
    assert len(refused) == 14


def test_files_of_long_ago_make_room() -> None:
    old = put(shelf("old"), "1", b"x")
    for path in (old, old.parent):
        os.utime(path, (1, 1))
    put(shelf("me"), "1", b"x")
    assert not old.exists()


def test_somebody_elses_folder_is_not_used(temporary: Path) -> None:
    (temporary / "theirs").mkdir()
    os.symlink(temporary / "theirs", temporary / f"steering-uploads-{os.getuid()}")
    with pytest.raises(BadInput, match="not this user's own folder"):
        shelf("me")
    assert list((temporary / "theirs").iterdir()) == []
