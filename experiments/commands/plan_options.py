"""Plans on the command line: in one line, as a file or by repository, with vectors that are named by files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from steering.errors import BadInput

if TYPE_CHECKING:
    from steering.plan.plan import Plan
    from steering.vector.features import Features
    from steering.vector.vectors import SteeringVector

ExpressionArgument = Annotated[str, typer.Argument(help="One-line plan, a YAML or JSON plan file, or hub:OWNER/NAME.")]
VectorOption = Annotated[
    list[str] | None, typer.Option("--vector", help="NAME=FILE: what the plan calls a vector file.")
]


def read_plan(text: str, named: list[str] | None) -> Plan:
    """A plan from its one-line form or a file; vectors by `NAME=FILE` or by path."""
    from steering.plan import source

    return source.read_plan(text, named_vectors(named))


def named_vectors(named: list[str] | None) -> dict[str, SteeringVector | Features]:
    """What `--vector NAME=FILE` names. Raises BadInput."""
    from steering.vector.features import load_stored

    vectors: dict[str, SteeringVector | Features] = {}
    for entry in named or []:
        name, equals, path = entry.partition("=")
        if not equals:
            raise BadInput(f"--vector {entry!r} is not NAME=FILE.")
        vectors[name] = load_stored(path)
    return vectors
