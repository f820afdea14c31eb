"""Steering vectors with their provenance, in safetensors.

1. A vector is a direction at a site, `[d_model]`, finite and non-zero, stored in float32 together with where it came from.
2. Loading executes no code: safetensors only. A pickled, corrupt or foreign file is refused with what to do.
3. `digest` hashes bytes and site, so a plan that holds the vector changes identity when the vector does.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import BadInput
from ..files import write_file
from ..model.models import LoadedModel
from ..model.reader import Sited
from ..model.sites import Site
from .hub.download import local_file, taken_from

FORMAT = "steering-workbench/vector@1"
UNKNOWN = "unknown"
"""The fingerprint of a model that an imported file does not identify."""


def write_tensors(path: Path | str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> Path:
    """A safetensors file under a temporary name, made durable, then renamed: readers see all of it or none. Equal content gives equal
    bytes."""
    path = Path(path)
    write_file(path, _ordered(save(tensors, metadata=metadata)))
    return path


def _ordered(data: bytes) -> bytes:
    """A serialised file with the keys of its metadata in order: the library writes them in another order every time."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


@contextmanager
def whole(path: Path | str, remedy: str = "write it or copy it again") -> Iterator[None]:
    """Around what reads a file: what a file that is cut short, or is not what it says, does to its reader becomes one BadInput."""
    try:
        yield
    except BadInput:
        raise
    except (SafetensorError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} is corrupt or cut short ({error}); {remedy}.") from error


def read_tensors(path: Path | str, format: str, what: str, hint: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file that `write_tensors` wrote with this format.

    Raises BadInput, naming `what` was looked for (and `hint`, where there is no such file), when there is none, or it is corrupt or of
    another format.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"No {what} at {path}.{hint}")
    with whole(path), safe_open(path, "pt") as handle:
        metadata = handle.metadata() or {}
        if metadata.get("format") != format:
            raise BadInput(f"{path} does not hold a {what}: its metadata lacks format {format!r}.")
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}
    return tensors, metadata


@dataclass(frozen=True)
class Provenance:
    """Where a vector came from."""

    method: str
    """How it was computed, e.g. `checkpoint difference`, `mean difference`, `random`."""
    model: str
    """Fingerprint of the weights whose residual stream it lives in; `unknown` where an imported file does not say."""
    model_id: str = ""
    contrast: str = ""
    """What was subtracted from what, and at which positions."""
    data: str = ""
    """Hash of the token sequences read."""
    counts: tuple[int, ...] = ()
    """Samples averaged on each side; a sample is one position, or the mean over one span."""
    parents: tuple[str, ...] = ()
    """Digests of the vectors it was derived from."""
    notes: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def parse(record: dict[str, Any]) -> Provenance:
        """Provenance from its JSON record. Raises KeyError or TypeError when fields are missing or not known."""
        return Provenance(**{**record, "counts": tuple(record["counts"]), "parents": tuple(record["parents"])})

    def noting(self, notes: Mapping[str, Any]) -> Provenance:
        """This provenance with more notes."""
        return replace(self, notes={**self.notes, **notes}) if notes else self

    def same_model(self, other: Provenance) -> bool | None:
        """Whether both come from one model: by fingerprint, else by id; None where either does not say."""
        if UNKNOWN not in (self.model, other.model):
            return self.model == other.model
        if self.model_id and other.model_id:
            return self.model_id == other.model_id
        return None


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """A direction `[d_model]` (float32) at a site. Raises BadInput when it is not one finite, non-zero row."""

    name: str
    site: Site
    direction: Tensor
    provenance: Provenance

    def __post_init__(self) -> None:
        vector = self.direction.detach().to(torch.float32).cpu().contiguous()
        if vector.ndim != 1:
            raise BadInput(f"Vector {self.name!r} has shape {list(vector.shape)}; one row [d_model] is needed.")
        if not torch.isfinite(vector).all():
            raise BadInput(f"Vector {self.name!r} holds NaN or infinity.")
        if not math.isfinite(float(vector.norm())):
            raise BadInput(
                f"Vector {self.name!r} is too long: its norm is more than a 32-bit number holds, so no dose in its units can be made. "
                "Give it a norm of the size of the activations."
            )
        if float(vector.norm()) == 0.0:
            raise BadInput(f"Vector {self.name!r} is zero: the two sides of its contrast are identical at {self.site}.")
        object.__setattr__(self, "direction", vector)

    @property
    def norm(self) -> float:
        """Euclidean length, in residual-stream units."""
        return float(self.direction.norm())

    @property
    def digest(self) -> str:
        """Hash of the bytes and the site: 16 hexadecimal digits."""
        return hashlib.sha256(self.direction.numpy().tobytes() + self.site.name.encode()).hexdigest()[:16]

    def check(self, model: LoadedModel) -> None:
        """Raises BadInput when the vector cannot be used at its site in the model: wrong width, or no such site."""
        self.check_width(model, model.layout.check(self.site))

    def check_config(self, model: Sited) -> None:
        """Raises BadInput for what a configuration alone tells (`reader.Reader`): no such layer, or another width than the stream's.
        Kinds of sites inside a layer and widths of heads are known from a loaded model alone (`check`)."""
        model.layout.check(Site(self.site.layer))
        if self.site.kind != "z":
            self.check_width(model, self.site)

    def check_width(self, model: Sited, site: Site) -> None:
        """Raises BadInput when the vector's width is not that of the activations at a site."""
        width = model.layout.width(site)
        if self.direction.shape[0] != width:
            source = self.provenance.model_id or self.provenance.model
            raise BadInput(
                f"Vector {self.name!r} has width {self.direction.shape[0]}, but {model.id} has "
                f"{'d_head' if site.kind == 'z' else 'd_model'} {width} at {site}. It was extracted from {source}; "
                f"extract one from {model.id}."
            )

    def save(self, path: Path | str) -> Path:
        """Write to `path` atomically (temporary name, fsync, rename)."""
        facts = {"name": self.name, "site": self.site.name, "norm": self.norm, "provenance": vars(self.provenance)}
        return write_tensors(
            path, {"direction": self.direction}, {"format": FORMAT, "vector": json.dumps(facts, sort_keys=True)}
        )

    @staticmethod
    def load(path: Path | str) -> SteeringVector:
        """Read a vector file, or the one that `hub:owner/name` names (`hub.download`), whose notes then say of which repository and commit
        it is (`hub`). Raises BadInput for anything but a whole safetensors file in this format."""
        origin, path = taken_from(path), local_file(path)
        if not path.is_file():
            raise BadInput(f"No vector file at {path}. `steer extract` writes one.")
        with path.open("rb") as opened:
            head = opened.read(9)
        if head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
            head = b""  # safetensors: the length of a header, whose first bytes may be any, and the header
        if head[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise BadInput(
                f"{path} is a pickled file (.pt/.pkl), which can run code when loaded. "
                "steering.vector.interchange reads the published kinds without running any; save the result as safetensors."
            )
        if len(head) < 9 or int.from_bytes(head[:8], "little") >= max(path.stat().st_size, 1):
            if head and head[:1] not in (b"{", b"["):
                raise BadInput(
                    f"{path} is no vector file, or corrupt or cut short near its beginning: it does not begin as a safetensors file "
                    "does. Give the vector's own file, which ends with .safetensors, or copy it again."
                )
        if head[:1] in (b"{", b"["):
            raise BadInput(
                f"{path} is a text file (JSON), not a vector. Give the vector's own file, which ends with .safetensors."
            )
        try:
            with safe_open(path, "pt") as handle:
                metadata = handle.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise BadInput(
                        f"{path} is a safetensors file but not a steering vector: its metadata lacks format {FORMAT!r}."
                    )
                direction = handle.get_tensor("direction")
            facts = json.loads(metadata["vector"])
            if not isinstance(facts, dict) or not isinstance(facts.get("provenance"), dict):
                raise TypeError("its facts or its provenance are no mapping")
            if not isinstance(facts["name"], str) or not isinstance(facts["site"], str):
                raise TypeError("its name or its site is no text")
            provenance = Provenance.parse(facts["provenance"]).noting(origin)
        except BadInput:
            raise
        except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise BadInput(
                f"{path} is corrupt or cut short ({error}). Extract the vector again or copy the file again."
            ) from error
        try:
            return SteeringVector(facts["name"], Site.parse(facts["site"]), direction, provenance)
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from error


def random_like(vector: SteeringVector, seed: int) -> SteeringVector:
    """The matched-norm control: a uniformly random direction with the norm and site of `vector`.

    It is drawn anew for every vector and seed (from the vector's digest and `seed`): one seed gives two vectors two directions.
    """
    drawn_from = hashlib.sha256(f"{vector.digest}|{seed}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(drawn_from[:7]))
    direction = torch.randn(vector.direction.shape[0], generator=generator)
    direction = direction / direction.norm() * vector.norm
    provenance = Provenance(
        "random",
        vector.provenance.model,
        vector.provenance.model_id,
        contrast=f"matched norm, seed {seed}",
        parents=(vector.digest,),
    )
    return SteeringVector(f"random {seed}", vector.site, direction, provenance)
