"""The decoders by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from steering.errors import BadInput, unknown

from .bias import WordBias
from .decoder import Decoder
from .forcing import BudgetForcing
from .paths import CotDecoding
from .power import PowerSampling
from .samples import Samples
from .suppression import Suppression

KINDS: dict[str, type[Any]] = {
    "cot-decoding": CotDecoding,
    "samples": Samples,
    "power-sampling": PowerSampling,
    "budget-forcing": BudgetForcing,
    "suppression": Suppression,
    "word-bias": WordBias,
}
"""Every decoder by the name that arms call it by."""


def decoder_named(facts: Mapping[str, Any]) -> Decoder:
    """The decoder of an arm, `{kind: ..., ...}`. Raises BadInput."""
    kind = facts.get("kind")
    if kind not in KINDS:
        raise unknown("decoder", str(kind), KINDS)
    try:
        made: Decoder = KINDS[str(kind)].model_validate({k: v for k, v in facts.items() if k != "kind"})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["decoder", str(kind), *map(str, first["loc"])])
        raise BadInput(f"{place}: {first['msg'].removeprefix('Value error, ')}") from error
    return made
