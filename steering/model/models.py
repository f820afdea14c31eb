"""Loading models: a hub id, a local folder, or a built-in (`builtin:base`, `builtin:thinking`), all by one code path.

1. Remote code never runs unless the caller says so.
2. Sites are resolved and checked at load (`sites.layout_of`).
3. The engine's way of reading is tried beside the naive one on a few tokens (`trial`); a model on which they differ is refused at load.
4. Every loaded model has a fingerprint of its weights and of its tokenizer, which row keys and vectors carry.
5. Unknown names, revisions and devices are refused with the nearest valid choice.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils import logging as transformers_logging

from ..errors import BadInput, unknown
from .executor import Executor, HookExecutor
from .layout import Layout, text_config
from .resolution import layout_of
from .rope import Rope, rope_of
from .trial import LONGEST, Trial, tried

BUILTIN_FOLDER = Path(__file__).parents[1] / "builtin"
BUILTINS = {"builtin:base": BUILTIN_FOLDER / "base", "builtin:thinking": BUILTIN_FOLDER / "thinking"}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "auto": "auto"}


QUANTIZATIONS: dict[str, dict[str, Any]] = {"8bit": {"load_in_8bit": True}, "4bit": {"load_in_4bit": True}}


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model ready to be read and steered."""

    id: str
    """As the user named it."""
    model: Any
    tokenizer: PreTrainedTokenizerBase
    layout: Layout
    revision: str | None = None
    executor: Executor | None = None
    """What runs the forward passes; the model itself, hooked, by default."""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def d_model(self) -> int:
        return self.layout.d_model

    @property
    def n_layers(self) -> int:
        return len(self.layout.layers)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @cached_property
    def runs(self) -> Executor:
        """The executor in use."""
        return self.executor or HookExecutor(self.model, self.layout)

    @cached_property
    def dtype(self) -> torch.dtype:
        """Precision of the activations."""
        return self.model.dtype

    @cached_property
    def trial(self) -> Trial:
        """How the engine's way of reading compares with the naive one on this model."""
        if self.context < LONGEST:
            return Trial(())
        exact = self.dtype == torch.float32 and getattr(self.model, "quantization_method", None) is None
        return tried(self.model, HookExecutor(self.model, self.layout, lean=False), self.n_layers, exact, self.rope)

    @property
    def context(self) -> int:
        """Longest sequence in tokens; very large when the model states none."""
        stated = int(getattr(text_config(self.model.config), "max_position_embeddings", 0) or 2**31)
        return stated if self.rope.limit is None or self.rope.held else min(stated, self.rope.limit)

    @cached_property
    def rope(self) -> Rope:
        """How rotary factors depend on a sequence's length."""
        return rope_of(self.model)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of configuration and weights: 16 hexadecimal digits. Equal weights give equal fingerprints."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        """Hash of the vocabulary, special tokens and chat template."""
        facts = [
            sorted(self.tokenizer.get_vocab().items()),
            self.tokenizer.special_tokens_map,
            self.tokenizer.chat_template,
        ]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]

    @cached_property
    def eos_ids(self) -> frozenset[int]:
        """Every id that ends a generation."""
        found: set[int] = set()
        for source in (self.tokenizer.eos_token_id, getattr(self.model.generation_config, "eos_token_id", None)):
            found.update([source] if isinstance(source, int) else source or [])
        return frozenset(found)


def load_tokenizer(source: str | Path, **kwargs: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint, of the class that it declares.

    `AutoTokenizer` picks by model type for some architectures (qwen2 among them) and would silently replace a plain `tokenizer.json`
    by that architecture's own pre-tokeniser; a checkpoint that declares a plain one gets it.
    """
    declared = get_tokenizer_config(str(source), **kwargs).get("tokenizer_class")
    plain = declared in ("TokenizersBackend", "PreTrainedTokenizerFast")
    return (PreTrainedTokenizerFast if plain else AutoTokenizer).from_pretrained(source, **kwargs)


def wrap(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    id: str = "in-memory",
    probe: bool = True,
    trial: bool | None = None,
) -> LoadedModel:
    """A model already in memory, made ready (evaluation mode, layout checked by `probe`, tried by `trial`, which goes with it by default).

    Raises BadInput as `load_model` for an architecture that cannot be served.
    """
    model.eval()
    loaded = LoadedModel(id, model, tokenizer, layout_of(model, probe))
    if probe if trial is None else trial:
        loaded.trial.refuse(id)
    return loaded


def load_model(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str | None = None,
    device_map: str | dict[str, Any] | None = None,
    tp_plan: str | None = None,
    quantization: str | None = None,
    trust_remote_code: bool = False,
    trial: bool = True,
) -> LoadedModel:
    """Load `name` (hub id, local folder, or `builtin:...`), in evaluation mode.

    `device_map="auto"` spreads layers over devices, `tp_plan="auto"` each layer over the processes that torchrun started,
    `quantization` (`8bit`, `4bit`) loads weights through bitsandbytes. `trial=False` takes a model on which the engine's way of reading
    differs from the naive one, for reading activations.

    Raises BadInput for an unknown built-in, dtype, folder, revision or architecture, and for a model that the trial refuses.
    """
    if sum(option is not None for option in (device, device_map, tp_plan)) > 1:
        raise BadInput("Give only one of device, device_map and tp_plan.")
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    source: str | Path = name
    if name.startswith("builtin:"):
        if name not in BUILTINS:
            raise unknown("model", name, BUILTINS)
        source = BUILTINS[name]
        if not (source / "model.safetensors").exists():
            raise BadInput(f"{name} has no weights in {source}. Train the pair: steer pair train.")
    elif name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        raise BadInput(
            f"No model folder at {name}. Give a folder that holds config.json and *.safetensors, or a hub id."
        )
    if not name.startswith("builtin:") and Path(name).expanduser().is_dir():
        source = Path(name).expanduser()
    try:
        kwargs: dict[str, Any] = {"revision": revision} if revision else {}
        tokenizer = load_tokenizer(source, trust_remote_code=trust_remote_code, **kwargs)
        with _quiet() if name in BUILTINS else nullcontext():
            model = AutoModelForCausalLM.from_pretrained(
                source,
                dtype=DTYPES[dtype],
                device_map=device_map,
                trust_remote_code=trust_remote_code,
                use_safetensors=True,
                **({"tp_plan": tp_plan} if tp_plan else {}),
                **quantized(quantization),
                **kwargs,
            )
    except (OSError, ValueError) as error:
        builtin = "; built in are " + ", ".join(BUILTINS)
        raise BadInput(f"Cannot load model {name!r}{f' at revision {revision}' if revision else ''}: {_first_line(error)} "
                       f"Give a hub id, a local folder with *.safetensors, or a built-in name{builtin}.") from error  # fmt: skip
    if device is not None:
        model.to(device)
    model.eval()
    commit = getattr(model.config, "_commit_hash", None) or revision
    loaded = LoadedModel(name, model, tokenizer, layout_of(model), commit)
    if trial:
        loaded.trial.refuse(name)
    return loaded


def quantized(quantization: str | None) -> dict[str, Any]:
    """The loading arguments of a quantization. Raises BadInput for an unknown one, or when bitsandbytes is not installed."""
    if quantization is None:
        return {}
    if quantization not in QUANTIZATIONS:
        raise unknown("quantization", quantization, QUANTIZATIONS)
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BadInput(f"quantization {quantization!r} needs bitsandbytes: pip install bitsandbytes.")
    return {"quantization_config": BitsAndBytesConfig(**QUANTIZATIONS[quantization])}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bar of loading weights, which takes longer to read than the built-in ones to load."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]
