"""Where in the model: one vocabulary of sites for every architecture.

1. A site is named as TransformerLens names it: `blocks.<layer>.hook_<kind>` with kind resid_pre, attn_out, resid_mid, mlp_out or
   resid_post, and `blocks.<layer>.attn.hook_z.<head>` for the output of one attention head before the output projection.
2. `attn_out` and `mlp_out` are what the block adds to the residual stream, after any norm that the architecture puts behind them, so
   resid_mid = resid_pre + attn_out and resid_post = resid_mid + mlp_out hold in every architecture that has them.
3. Sites have an order within the forward pass (`Site.order`): a gate may read what lies before the edit, never what lies behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ..errors import BadInput, unknown

Kind = Literal["resid_pre", "z", "attn_out", "resid_mid", "mlp_out", "resid_post"]
KINDS: tuple[str, ...] = ("resid_pre", "z", "attn_out", "resid_mid", "mlp_out", "resid_post")
"""In forward order within a block."""
_NAME = re.compile(r"blocks\.(\d+)\.hook_([a-z_]+)")
_HEAD = re.compile(r"blocks\.(\d+)\.attn\.hook_z(?:\.(\d+))?")
_SET = re.compile(r"blocks\.\{([^}]*)\}(\..+)")


@dataclass(frozen=True)
class Site:
    """A place in the forward pass: 0-based decoder layer, kind, and for `z` the 0-based attention head."""

    layer: int
    kind: Kind = "resid_post"
    head: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("site kind", self.kind, KINDS)
        if (self.kind == "z") != (self.head is not None):
            raise BadInput(
                f"Site kind {self.kind!r} {'needs a head, as in blocks.0.attn.hook_z.3' if self.kind == 'z' else 'takes no head'}."
            )

    @property
    def name(self) -> str:
        return (
            f"blocks.{self.layer}.attn.hook_z.{self.head}"
            if self.kind == "z"
            else f"blocks.{self.layer}.hook_{self.kind}"
        )

    @property
    def order(self) -> tuple[int, int, int]:
        """Sort key: earlier in the forward pass is smaller."""
        return self.layer, KINDS.index(self.kind), -1 if self.head is None else self.head

    def __lt__(self, other: Site) -> bool:
        return self.order < other.order

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def parse(name: str | Site) -> Site:
        """Site from its name. Raises BadInput for anything else, naming the nearest valid form."""
        if isinstance(name, Site):
            return name
        head = _HEAD.fullmatch(name)
        if head is not None:
            if head[2] is None:
                raise BadInput(f"{name!r} names all heads; a site is one head, as in {name}.0.")
            return Site(int(head[1]), "z", int(head[2]))
        match = _NAME.fullmatch(name)
        if match is None:
            raise BadInput(
                f"{name!r} is not a site. Write blocks.<layer>.hook_resid_pre, hook_attn_out, hook_resid_mid, hook_mlp_out or "
                f"hook_resid_post, or blocks.<layer>.attn.hook_z.<head>."
            )
        if match[2] not in KINDS or match[2] == "z":
            raise unknown("site kind", match[2], [k for k in KINDS if k != "z"], where=name)
        return Site(int(match[1]), match[2])  # type: ignore[arg-type]


def parse_sites(text: str | Site | Iterable[str | Site]) -> tuple[Site, ...]:
    """Sites from one name, a list of names, or a layer set: `blocks.{2,4,6-8}.hook_resid_post`. Duplicates are refused."""
    if isinstance(text, Site):
        return (text,)
    if isinstance(text, str):
        many = _SET.fullmatch(text)
        if many is None:
            return (Site.parse(text),)
        found = tuple(Site.parse(f"blocks.{layer}{many[2]}") for layer in _layers(many[1], text))
    else:
        found = tuple(site for entry in text for site in parse_sites(entry))
    if not found:
        raise BadInput("No site is named; give at least one, such as blocks.2.hook_resid_post.")
    if len(set(found)) != len(found):
        raise BadInput(f"A site is named twice in {text!r}; the edit would be made twice there.")
    return found


def _layers(inside: str, where: str) -> list[int]:
    layers: list[int] = []
    for part in inside.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdigit() or (dash and not high.isdigit()):
            raise BadInput(
                f"{part!r} in {where!r} is not a layer or a range of layers, as in blocks.{{2,4,6-8}}.hook_resid_post."
            )
        if dash and int(high) < int(low):
            raise BadInput(f"The layer range {part!r} in {where!r} runs backwards.")
        layers += range(int(low), int(high or low) + 1)
    return layers
