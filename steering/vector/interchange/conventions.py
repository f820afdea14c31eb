"""Layer conventions of GGUF control vectors: which site `direction.<l>` belongs to.

1. The programs that write these files number layers differently, and the files do not say which of them wrote it. A vector that is
   shifted by one layer still gives fluent text, so the convention is named by the caller and never guessed.
2. Sites are `blocks.<layer>.hook_resid_post`: the output of the 0-based decoder layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import BadInput, unknown
from ...model.sites import Site


@dataclass(frozen=True)
class LayerConvention:
    """How one program numbers `direction.<l>`."""

    name: str
    first: int
    """The lowest index that the program reads or writes."""
    shift: int
    """0-based decoder layer minus index."""
    meaning: str
    writable: bool = True

    def site(self, index: int) -> Site:
        """Site of `direction.<index>`. Raises BadInput for an index that this convention does not have."""
        if index < self.first:
            others = [c.name for c in CONVENTIONS.values() if c.first <= index]
            instead = f" Pass layers={' or layers='.join(map(repr, others))}." if others else ""
            raise BadInput(
                f"direction.{index} does not exist under layers={self.name!r} ({self.meaning}).{instead} "
                "Files written by repeng and EasySteer number layers from 0."
            )
        return Site(index + self.shift)

    def index(self, site: Site) -> int:
        """Index of a site. Raises BadInput for a site that this convention cannot name."""
        if site.kind != "resid_post":
            same = f" The same stream is {Site(site.layer - 1)}." if site.layer > 0 else ""
            raise BadInput(f"{site}: a control vector is added to the output of a layer (hook_resid_post).{same}")
        index = site.layer - self.shift
        if index < self.first:
            others = [c.name for c in CONVENTIONS.values() if c.writable and c.first <= site.layer - c.shift]
            raise BadInput(
                f"{site} cannot be written under layers={self.name!r} ({self.meaning}). "
                f"Leave that vector out, or pass layers={' or layers='.join(map(repr, others))}."
            )
        return index


CONVENTIONS: Mapping[str, LayerConvention] = {
    convention.name: convention
    for convention in (
        LayerConvention(
            "llama.cpp", 1, 0, "direction.l is added to the output of 0-based layer l; layer 0 cannot be steered"
        ),
        LayerConvention(
            "cvector-generator",
            1,
            -1,
            "llama.cpp's generator names what it read at the output of 0-based layer l - 1 direction.l",
            writable=False,
        ),
        LayerConvention("repeng", 0, 0, "direction.l was read and is added at the output of 0-based layer l"),
        LayerConvention("easysteer", 0, 0, "direction.l is added to the output of 0-based layer l, from layer 0 on"),
    )
}
"""By name. `llama.cpp` is where llama.cpp applies a file, whoever wrote it; `cvector-generator` is where its generator read it."""


def convention(name: str) -> LayerConvention:
    """The named convention. Raises BadInput with the valid names."""
    if name not in CONVENTIONS:
        raise unknown("layer convention", name, CONVENTIONS, where="layers")
    return CONVENTIONS[name]
