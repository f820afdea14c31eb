"""Adapters of the PEFT library (LoRA and others that can be merged): a folder with `adapter_config.json` and its weights.

1. An adapter is merged into its base: the model that is run is a plain one, with hooks, sites and fingerprint as any other.
2. `adapted` makes it beside a base that stays as it is. Both share every weight that the adapter leaves alone; those that it changes are
   there twice.
3. Weights are read as safetensors, or by torch's weights-only loader; nothing in a folder is run. An adapter whose weights do not all have
   their place in the base is refused, as is a kind that cannot be merged.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from ..errors import BadInput
from .sources import ADAPTER, Source, first_line, refusal

_BROKEN = (
    *(OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, NotImplementedError),
    *(SafetensorError, UserWarning),
)
"""What peft raises for folders that are not what it expects."""
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def base_of(source: Source) -> str:
    """The base model that an adapter's configuration names. Raises BadInput where it names none."""
    named = _config(source).get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise BadInput(f"{source.name} is an adapter that does not name its base model; pass base.")
    return named


def base_revision(source: Source) -> str | None:
    """The base's revision that an adapter's configuration names."""
    named = _config(source).get("revision")
    return named if isinstance(named, str) and named else None


def has_tokenizer(source: Source) -> bool:
    """Whether an adapter brings a tokenizer of its own, as one does that was trained with new tokens."""
    return any((Path(source.place) / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))


def adapted(base: nn.Module, source: Source) -> nn.Module:
    """A model with an adapter merged into it; `base` stays as it is, and weights that the adapter leaves alone are shared with it.

    Raises BadInput when peft is not installed, and for an adapter that is damaged, of another model, or cannot be merged.
    """
    folder = Path(source.place)
    config = _config(source)
    if not any((folder / name).is_file() for name in _WEIGHTS):
        raise BadInput(
            f"{folder} has {ADAPTER} and no {_WEIGHTS[0]}, so it is no whole adapter. If it holds a whole model, take {ADAPTER} out of it."
        )
    if importlib.util.find_spec("peft") is None:
        raise BadInput(
            f"{source.name} is an adapter ({config.get('peft_type', 'PEFT')}), which needs peft: pip install 'steering-workbench[peft]'."
        )
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTuner

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys", category=UserWarning)
            model = PeftModel.from_pretrained(_shared(base), str(folder))
            if not isinstance(model.base_model, BaseTuner):
                kind = config.get("peft_type")
                raise BadInput(
                    f"{source.name} is an adapter of kind {kind}, which cannot be merged; LoRA and its relatives are read."
                )
            _refuse_tied(source, base, model)
            _refuse_unplaced(source, base, model)
            merged = model.merge_and_unload(safe_merge=True)
    except BadInput:
        raise
    except pickle.UnpicklingError as error:
        raise refusal(source, error) from error
    except _BROKEN as error:
        own = getattr(base.config, "name_or_path", "") or type(base).__name__
        raise BadInput(
            f"{source.name} does not fit the base model {own}, or is damaged: {first_line(error)} Pass as base the model that it was "
            "trained on."
        ) from error
    merged.eval().requires_grad_(False)
    return merged


def _shared(model: nn.Module) -> nn.Module:
    """A copy whose weights are other parameters over the same memory."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.data, requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer
    return copy.deepcopy(model, memo)


def _ends(base: Any) -> dict[str, nn.Module]:
    """The modules of a causal model's embeddings and of its output, by name."""
    ends = [base.get_input_embeddings(), base.get_output_embeddings()]
    return {name: module for name, module in base.named_modules() if any(module is end for end in ends)}


def _refuse_tied(source: Source, base: Any, model: Any) -> None:
    """Raises BadInput where an adapter changes one of two weights that are one in the base: merged, it would change both."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    ends = _ends(base)
    if len({id(end.weight) for end in ends.values()}) == len(ends):
        return
    for name in ends:
        if isinstance(model.base_model.model.get_submodule(name), BaseTunerLayer):
            others = " and ".join(other for other in ends if other != name)
            raise BadInput(
                f"{source.name} changes {name}, which the base ties to {others}: merged into it, it would change both. Merge it "
                "into an untied copy of the base with its trainer, and load that folder."
            )


def _refuse_unplaced(source: Source, base: Any, model: Any) -> None:
    """Raises BadInput for weights of the file that no place in the model took."""
    from peft import get_peft_model_state_dict
    from peft.utils.save_and_load import load_peft_weights

    stored = load_peft_weights(str(source.place), device="cpu")
    # By itself peft would ask the hub whether the base's embeddings were made larger.
    embeddings = any(f".{end}." in name for name in stored for end in _ends(base))
    placed = get_peft_model_state_dict(model, save_embedding_layers=embeddings)
    lost = sorted(set(stored) - set(placed))
    if lost:
        raise BadInput(
            f"{source.name} has weights without a place in its base: {', '.join(lost[:3])}. Pass as base the model that it was trained on."
        )
    for name, value in stored.items():
        if not torch.isfinite(value).all():
            raise BadInput(
                f"{source.name}: {name} holds NaN or infinity; the file is corrupt, or its training diverged."
            )


def _config(source: Source) -> dict[str, Any]:
    path = Path(source.place) / ADAPTER
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is corrupt or cut short ({first_line(error)}) Copy it again.") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} holds a {type(content).__name__}; an object with keys and values is needed.")
    return content
