"""Loading models, all by one code path: a hub id, a folder (safetensors, `pytorch_model.bin`, an adapter), a GGUF file, a known name, or a
built-in (`builtin:base`, `builtin:thinking`).

1. Remote code never runs unless the caller says so, and nothing pickled is run.
2. Sites are resolved and checked at load (`sites.layout_of`).
3. The engine's way of reading is tried beside the naive one on a few tokens (`trial`); a model on which they differ is refused at load.
4. Every loaded model has a fingerprint of its weights and of its tokenizer, which row keys and vectors carry.
5. Unknown names, revisions and devices are refused with the nearest valid choice; weights that are missing or do not fit into memory are
   refused, too.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from ..errors import BadInput, listed, unknown
from .adapters import adapted, base_of, base_revision, has_tokenizer
from .deltas import apply_delta, delta_facts
from .executor import Executor, HookExecutor
from .layout import Layout, text_config
from .memory import parameters_of, refuse_too_large
from .reader import load_tokenizer
from .resolution import layout_of
from .rope import Rope, rope_of
from .sources import ADAPTER, BUILTINS, STARTS, Source, find_source, refusal
from .trial import LONGEST, Trial, tried

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
        written = getattr(self.model, "generation_config", None)
        for source in (self.tokenizer.eos_token_id, getattr(written, "eos_token_id", None)):
            found.update([source] if isinstance(source, int) else source or [])
        return frozenset(found)


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
    base: str | None = None,
) -> LoadedModel:
    """Load `name` (hub id, local folder, `.gguf` file, known name, or `builtin:...`), in evaluation mode.

    `device="auto"` is the GPU where there is one that computes in bfloat16, else the CPU; `dtype="auto"` is bfloat16 on such a GPU, else
    float32. `device_map="auto"` spreads layers over devices, `tp_plan="auto"` each layer over the processes that torchrun started,
    `quantization` (`8bit`, `4bit`) loads weights through bitsandbytes. `base` names the base model of an adapter's folder; by default it is
    the one that the adapter names. `trial=False` takes a model on which the engine's way of reading differs from the naive one, for reading
    activations.

    A folder with `delta.safetensors` (`deltas`) is its base with some weights changed; `base` names another place of that base.

    Raises BadInput for an unknown built-in, dtype, folder, revision or architecture, for weights that are damaged, incomplete, too large
    for the memory that is free, or pickled with more than tensors, and for a model that the trial refuses.
    """
    if sum(option is not None for option in (device, device_map, tp_plan)) > 1:
        raise BadInput("Give only one of device, device_map and tp_plan.")
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    device = auto_device() if device == "auto" else device
    dtype = auto_dtype(device, spread=device_map is not None or tp_plan is not None) if dtype == "auto" else dtype
    source = adapter = find_source(name)
    if source.is_delta:
        if quantization is not None:
            raise BadInput(f"{name} changes weights in float32, bfloat16 or float16; leave quantization out.")
        return _changed(
            source, base, trial, revision=revision, dtype=dtype, device=device, device_map=device_map, tp_plan=tp_plan,
            trust_remote_code=trust_remote_code,
        )  # fmt: skip
    if adapter.is_adapter:
        if quantization is not None:
            raise BadInput(
                f"{name} is an adapter, which is merged into weights in float32, bfloat16 or float16; leave quantization out."
            )
        revision = revision or (base_revision(adapter) if base is None else None)
        source = _base_source(name, base, adapter)
    elif base is not None:
        raise BadInput(f"{name} is no adapter, so it has no base; leave base={base!r} out.")
    options = {"device_map": device_map, **({"tp_plan": tp_plan} if tp_plan else {}), **quantized(quantization)}
    kwargs: dict[str, Any] = {"trust_remote_code": trust_remote_code, **({"revision": revision} if revision else {})}
    place = source.checkpoint()
    try:
        config = AutoConfig.from_pretrained(place, **kwargs)
        if tp_plan is None:
            refuse_too_large(name, parameters_of(place, config), dtype, device, device_map, quantization)
        tokenizer = load_tokenizer(
            adapter.checkpoint() if adapter.is_adapter and has_tokenizer(adapter) else place, **kwargs
        )
        with _quiet() if name in BUILTINS | STARTS else nullcontext():
            model, found = AutoModelForCausalLM.from_pretrained(
                place,
                config=config,
                dtype=DTYPES[dtype],
                use_safetensors=not source.is_pickled,
                output_loading_info=True,
                **options,
                **kwargs,
            )
    except BadInput:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise refusal(source, error, revision) from error
    if missing := sorted(found["missing_keys"]):
        raise BadInput(f"{source.name} lacks weights of its model: {listed(missing, 4)}. Copy the checkpoint again.")
    if adapter.is_adapter:
        model = adapted(model, adapter)
    if device is not None:
        model.to(device)
    model.eval()
    commit = getattr(model.config, "_commit_hash", None) or revision
    loaded = LoadedModel(name, model, tokenizer, layout_of(model), commit)
    if trial:
        loaded.trial.refuse(name)
    return loaded


def _changed(source: Source, base: str | None, trial: bool, **options: Any) -> LoadedModel:
    """The base of a delta with its weights changed."""
    assert isinstance(source.place, Path)
    named = base or str(delta_facts(source.place)["base"])
    try:
        under = load_model(named, trial=False, **options)
    except BadInput as error:
        raise BadInput(
            f"{source.name} changes weights of {named!r}, which cannot be loaded: {error} Or pass base."
        ) from error
    apply_delta(under.model, source.place, named)
    loaded = LoadedModel(source.name, under.model, under.tokenizer, under.layout, under.revision)
    if trial:
        loaded.trial.refuse(source.name)
    return loaded


def _base_source(name: str, base: str | None, adapter: Source) -> Source:
    """Where the base of an adapter lies. Raises BadInput that says who named it, where it is not to be had."""
    try:
        return find_source(base or base_of(adapter))
    except BadInput as error:
        if base is not None:
            raise
        raise BadInput(
            f"{name} is an adapter of {base_of(adapter)!r}, which its configuration names as its base: {error} Or pass base."
        ) from error


def load_adapter(base: LoadedModel, folder: str | Path, *, trial: bool = True) -> LoadedModel:
    """The model of an adapter's folder beside its loaded base, which stays as it is: both share the weights that the adapter leaves alone,
    and those that it changes are in memory twice.

    Raises BadInput for a folder that is no whole adapter of this base, when peft is not installed, and as `load_model`.
    """
    source = find_source(str(folder))
    if not source.is_adapter:
        raise BadInput(f"{folder} has no {ADAPTER}, so it is not the folder of an adapter.")
    if getattr(base.model, "quantization_method", None) is not None:
        raise BadInput(f"{base.id} is quantized; an adapter is merged into weights in float32, bfloat16 or float16.")
    tokenizer = load_tokenizer(source.place) if has_tokenizer(source) else base.tokenizer
    model = adapted(base.model, source)
    loaded = LoadedModel(str(folder), model, tokenizer, layout_of(model))
    if trial:
        loaded.trial.refuse(loaded.id)
    return loaded


def auto_device() -> str:
    """The GPU where there is one that computes in bfloat16, else the CPU."""
    return "cuda" if _has_bfloat16() else "cpu"


def auto_dtype(device: str | None, spread: bool = False) -> str:
    """bfloat16 where a model goes to a GPU that computes in it, else float32."""
    on_gpu = spread or (device is not None and torch.device(device).type == "cuda")
    return "bfloat16" if on_gpu and _has_bfloat16() else "float32"


def _has_bfloat16() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


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
