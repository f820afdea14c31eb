"""What a plan would do to a prompt: each token, and the edits that cover it. No model is run.

1. The tokens are those that are fed (`encode_prompt`), in their order; nothing is tokenised again.
2. Coverage comes from the code that the engine uses, so the table shows what would be edited, gates left open.
3. A model's weights are not needed, but where `needs_weights` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from ..model.prompts import encode_prompt, token_texts
from ..model.reader import Reader, Sited
from ..plan.plan import Plan
from ..vector.vectors import UNKNOWN
from .compilation import RowPlan, check_plan, compile_plans
from .origin import HASHED, SKIPPING


@dataclass(frozen=True)
class TokenEdits:
    """One token and the numbers (in plan order, from 1) of the interventions that cover its position."""

    position: int
    token_id: int
    text: str
    part: str
    """`prompt` or `generated`."""
    interventions: tuple[int, ...]
    multipliers: tuple[float, ...]
    """Schedule's multiplier of each."""


@dataclass(frozen=True)
class Explanation:
    """The token table of one sequence under a plan."""

    plan: Plan
    tokens: tuple[TokenEdits, ...]
    warnings: tuple[str, ...] = ()
    """A sentence per vector that comes from another model, or does not say from which."""

    @property
    def covered(self) -> tuple[int, ...]:
        """Positions that some intervention covers."""
        return tuple(t.position for t in self.tokens if t.interventions)

    def table(self) -> Table:
        """The token table for a terminal."""
        table = Table(title="what the plan covers")
        for name in ("position", "token", "part", "covered by"):
            table.add_column(name, justify="right" if name == "position" else "left")
        for token in self.tokens:
            edits = ", ".join(
                f"{n}" if m == 1.0 else f"{n} (x {m:.3g})"
                for n, m in zip(token.interventions, token.multipliers, strict=True)
            )
            table.add_row(str(token.position), repr(token.text), token.part, edits, style="bold" if edits else "dim")
        lines = []
        for number, i in enumerate(self.plan.interventions, 1):
            dose = f" {i.dose}" if i.dose is not None else ""
            gate = f" when {i.gate}" if i.gate is not None else ""
            lines.append(
                f"{number}: {i.operation} {i.vector.name}{dose} at {', '.join(map(str, i.sites))} on {i.span}{gate}"
            )
        table.caption = "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])
        return table


def explain(
    model: Sited,
    plan: Plan,
    prompt: str | Sequence[int],
    generated: Sequence[int] = (),
    max_new_tokens: int | None = None,
    strict: bool = False,
) -> Explanation:
    """The table for a prompt (text, or ids as fed) and, where given, tokens generated after it.

    Raises BadInput as the engine does: for a plan that does not fit the model, or a span that covers nothing; when `strict`, also for
    vectors that are not known to come from it.
    """
    check_plan(plan, model, strict)
    ids = encode_prompt(model, prompt) if isinstance(prompt, str) else tuple(prompt)
    new = max(len(generated), max_new_tokens or 0, 1)
    compiled = compile_plans([plan], model)
    row = RowPlan(compiled, plan, ids, new, model)
    for offset, token in enumerate(generated):
        row.follow(len(ids) + offset, token)
    whole = [*ids, *generated]
    covers = _by_intervention(plan, compiled.members[plan], row)
    tokens = []
    for position, (token, text) in enumerate(zip(whole, token_texts(model, whole), strict=True)):
        numbers = [n for n, (active, _) in enumerate(covers) if active[position]]
        tokens.append(
            TokenEdits(
                position,
                token,
                text,
                "prompt" if position < len(ids) else "generated",
                tuple(n + 1 for n in numbers),
                tuple(float(covers[n][1][position]) for n in numbers),
            )
        )
    return Explanation(plan, tuple(tokens), compiled.origins[plan])


def needs_weights(plan: Plan, reader: Reader, strict: bool = False) -> bool:
    """Whether a plan is explained on a model's loaded weights (True) or its reader is enough.

    A forward pass finds the sites inside a layer and the attention sinks that some spans leave out; and the weights are compared with those
    that the plan's vectors come from, where they are loaded and hashed quickly, or must be (`strict`).
    """
    steps = plan.interventions
    gates = [step.gate for step in steps if step.gate is not None]
    sites = {site for step in steps for site in step.sites} | {gate.site for gate in gates if gate.site is not None}
    sinks = {"sinks", *SKIPPING} & {atom.kind for step in steps for atom in step.span.atoms}
    if sinks or any(site.kind not in ("resid_pre", "resid_post") for site in sites):
        return True
    used = [*(step.vector for step in steps), *(gate.vector for gate in gates if gate.vector is not None)]
    made = [vector.provenance for vector in used if vector.provenance.method != "random"]
    compared = any(provenance.model != UNKNOWN for provenance in made) and reader.parameters * 4 <= HASHED
    return compared or (strict and bool(made))


def _by_intervention(
    plan: Plan, members: Sequence[tuple[int, object]], row: RowPlan
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Coverage and multiplier per intervention (its first site stands for all)."""
    first: dict[int, int] = {}
    at = 0
    for number, intervention in enumerate(plan.interventions):
        first[number] = members[at][0]
        at += len(intervention.sites)
    return [(row.active[slot], row.multiplier[slot]) for slot in first.values()]
