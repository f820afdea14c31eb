"""Plans on models that run elsewhere: one nnsight request per batch of rows (NDIF, or its simulation in this process).

1. The server generates; the edits travel with the request as tensors and one formula that needs nothing but torch.
2. It is greedy, without gates, and with spans that are known before generation starts; anything else is refused by name. Receipts are the
   plan's own: what the server did cannot be counted from here, and the result says so.
3. Generation runs for `max_new_tokens` whatever is written; what follows an end token is cut off here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..compile import formula
from ..compile.compilation import RowPlan, compile_plans
from ..compile.slots import Slot
from ..engine.record import Row
from ..engine.sampling import GenerationSettings
from ..errors import BadInput
from ..model.models import LoadedModel
from ..plan.plan import Plan
from ..vector.vectors import SteeringVector
from .nnsight_local import module_paths, refuse_unsupported


@dataclass(frozen=True)
class RemoteRow:
    """A row generated elsewhere. `planned` edits were asked for; no receipt of what was made exists."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    finish: str
    planned: int


def check_remote(plans: Sequence[Plan], settings: GenerationSettings) -> None:
    """Raises BadInput for what a remote run cannot do."""
    if settings.temperature or settings.needs_history or settings.stop_strings or settings.logit_bias:
        raise BadInput("A remote run is greedy: leave temperature, penalties, stop strings and logit bias out.")
    for plan in plans:
        for intervention in plan.interventions:
            refuse_unsupported(list(intervention.sites), "remote")
            if not isinstance(intervention.vector, SteeringVector):
                raise BadInput(
                    f"A remote run edits directions, not latents; {intervention.vector.name!r} runs on the model itself."
                )
            if intervention.gate is not None:
                raise BadInput(
                    f"A remote run has no gates; drop 'when {intervention.gate}' or run the plan on the model itself."
                )
            if intervention.span.dynamic:
                raise BadInput(
                    f"Span {intervention.span} follows the tokens generated, which a remote run cannot; use generated, first_n, after_n, "
                    f"window, or a span of the prompt."
                )


def generate_remotely(
    model: LoadedModel,
    remote_model: Any,
    rows: Sequence[Row],
    settings: GenerationSettings,
    *,
    remote: bool | str = True,
) -> list[RemoteRow]:
    """Generate rows in one request. `model` is a local copy of the architecture (weights are not used), `remote_model` the
    `nnsight.TransformersModel`; `remote` as nnsight takes it (`True`, a host, or `"local"` to simulate).

    Raises BadInput for anything that cannot be done remotely, before the request is sent.
    """
    check_remote([row.plan for row in rows], settings)
    import nnsight

    nnsight.register(formula) if hasattr(nnsight, "register") else _register()
    new, lengths = settings.max_new_tokens, [len(row.prompt_ids) for row in rows]
    width = max(lengths)
    compiled = compile_plans([row.plan for row in rows if row.plan], model)
    plans = [RowPlan(compiled, row.plan, row.prompt_ids, new, model) if row.plan else None for row in rows]
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    attention = torch.zeros(len(rows), width, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, width - lengths[index] :] = torch.tensor(row.prompt_ids)
        attention[index, width - lengths[index] :] = 1
    paths = module_paths(model.model, model.layout)
    work = []
    for number, slot in enumerate(compiled.slots):
        assert isinstance(slot, Slot)
        lines = torch.tensor([0 if plan is None else plan.lines[number] for plan in plans])
        mask = torch.zeros(len(rows), width + new, dtype=torch.bool)
        multiplier = torch.ones(len(rows), width + new)
        for index, plan in enumerate(plans):
            if plan is not None:
                shift = width - lengths[index]
                covered = torch.from_numpy(plan.active[number])
                mask[index, shift : shift + len(covered)] = covered
                multiplier[index, shift : shift + len(covered)] = torch.from_numpy(plan.multiplier[number])
        kind = slot.site.kind
        path = paths[slot.site.layer]["layer" if kind.startswith("resid") else kind]
        work.append((path.split("."), kind == "resid_pre", slot.rows(lines), slot.needs, mask, multiplier))
    apply = formula.apply
    with remote_model.generate(
        {"input_ids": ids, "attention_mask": attention},
        max_new_tokens=new,
        do_sample=False,
        eos_token_id=-1,
        remote=remote,
    ) as tracer:
        for step in tracer.iter[:new]:
            begin = 0 if step == 0 else width + step - 1
            end = width if step == 0 else width + step
            for names, before, numbers, needs, mask, multiplier in work:
                envoy = remote_model
                for part in names:
                    envoy = envoy[int(part)] if part.isdigit() else getattr(envoy, part)
                value = envoy.input if before else envoy.output
                plain = isinstance(value, torch.Tensor)
                hidden = value if plain else value[0]
                edited, _ = apply(hidden, numbers, needs, mask[:, begin:end], multiplier[:, begin:end])
                if before:
                    envoy.input = edited
                else:
                    envoy.output = edited if plain else (edited, *value[1:])
        written = tracer.result.save()
    results = []
    for index, (row, plan) in enumerate(zip(rows, plans, strict=True)):
        tokens = [int(t) for t in written[index, width:]]
        ends = [i for i, token in enumerate(tokens) if token in model.eos_ids]
        tokens = tokens[: ends[0] + 1] if ends else tokens
        planned = 0 if plan is None else int(plan.active[:, : lengths[index] + len(tokens) - 1].sum())
        results.append(RemoteRow(row.prompt_ids, tuple(tokens), "eos" if ends else "length", planned))
    return results


def _register() -> None:
    from nnsight.ndif import register

    register(formula)
