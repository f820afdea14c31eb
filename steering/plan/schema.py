"""JSON schema of plan files, from the tables that plans are checked against."""

from __future__ import annotations

from typing import Any

from .dose import UNITS
from .gate import GATES
from .plan import ALL_OPERATIONS


def _site_schema() -> dict[str, Any]:
    name = {"type": "string", "description": "blocks.2.hook_resid_post, or a layer set: blocks.{2,4-6}.hook_resid_post"}
    return {"oneOf": [name, {"type": "array", "items": name, "minItems": 1}]}


PLAN_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "steering plan",
    "type": "object",
    "required": ["interventions"],
    "additionalProperties": False,
    "properties": {
        "interventions": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["operation", "vector", "span"],
                "additionalProperties": False,
                "properties": {
                    "operation": {"enum": list(ALL_OPERATIONS)},
                    "vector": {"type": "string", "description": "digest of the vector"},
                    "vector_name": {"type": "string", "description": "for readers; not part of the plan's identity"},
                    "site": _site_schema(),
                    "span": {
                        "type": "string",
                        "description": 'generated, first_n:8, (prompt | at:"wait") - specials, ...',
                    },
                    "dose": {
                        "oneOf": [
                            {"type": "null"},
                            {"type": "string", "description": "0.5v, 4, 0.2r, 30deg, 1.5f, each with ~schedule"},
                            {
                                "type": "object",
                                "required": ["amount"],
                                "additionalProperties": False,
                                "properties": {
                                    "amount": {"type": "number"},
                                    "unit": {"enum": list(UNITS)},
                                    "schedule": {"type": "string", "description": "linear:1:0:64, decay:16, once"},
                                },
                            },
                        ]
                    },
                    "gate": {
                        "type": "object",
                        "required": ["kind"],
                        "additionalProperties": False,
                        "properties": {
                            "kind": {"enum": list(GATES)},
                            "threshold": {"type": "number"},
                            "below": {"type": "boolean"},
                            "vector": {"type": "string"},
                            "vector_name": {"type": "string"},
                            "bias": {"type": "number"},
                            "site": {"type": "string"},
                            "name": {"type": "string"},
                        },
                    },
                    "keep_norm": {"type": "boolean"},
                },
            },
        }
    },
}
"""JSON schema of a plan."""
