"""Models from GGUF files (llama.cpp's format), converted once into a checkpoint folder of the cache.

1. Weights, configuration, tokenizer and chat template are what transformers reads from the file, dequantised. A weight is stored in the
   smallest precision that holds it bit for bit, so that loading the folder gives the numbers that transformers gives in float32.
2. A file that is corrupt or cut short, is one part of several, or is of an architecture that transformers does not read, is refused in one
   sentence; nothing is then left in the cache.
3. So is a file that says or holds what transformers leaves out of the model: tensors, other numbers in the configuration, scaled rotary
   factors of a kind that is not known. Llama 3's rotary factors, which transformers does not read, are put into the configuration.
4. A byte-level tokenizer splits text before it merges bytes, by a rule that the file names. transformers takes GPT-2's for a rule that it
   does not know, or that of the architecture; here the file's rule holds, and one that is not known is told of at every load.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from tokenizers import Regex, pre_tokenizers
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from ..errors import BadInput
from .cached import cache_root, file_digest, made, size_of
from .gguf_files import StrictReader, open_gguf, text_of
from .memory import refuse_too_large

FORMAT = "1"
"""Version of what is written here; part of the cache's names."""
NOTES = "notes.json"
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_LIKE_GPT2 = frozenset({"gpt-2", "phi-2", "mpt", "olmo", "jais"})
_SINGLE_DIGITS = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell"})
"""Rules of llama.cpp (`llama-vocab.cpp`) that are GPT-2's, and that are GPT-2's after each digit is set apart."""
_SAME = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "attention.sliding_window": "sliding_window",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
    "logit_scale": "logit_scale",
    "residual_scale": "residual_multiplier",
    "embedding_scale": "embedding_multiplier",
    "attention.scale": "attention_multiplier",
}
"""Keys of a file that change what its model computes, and what transformers calls them. `rope.scaling` is looked at apart."""
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""What llama.cpp's converter takes for Llama 3.1 to 3.3 (`convert_hf_to_gguf.py`)."""


def gguf_in(folder: Path) -> Path | None:
    """The GGUF file of a folder that holds no other weights; None where it holds none. Raises BadInput where it holds several."""
    found = sorted(folder.glob("*.gguf"))
    if not found or any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin")):
        return None
    if len(found) > 1 and not _PART.search(found[0].name):
        shown = ", ".join(path.name for path in found[:8]) + (", ..." if len(found) > 8 else "")
        raise BadInput(f"{folder} holds {len(found)} GGUF files: {shown}. Name one of them: {folder / found[0].name}.")
    return found[0]


def gguf_checkpoint(path: Path) -> Path:
    """The cache's checkpoint folder of a GGUF file, made where there is none. Raises BadInput as this module's contract says."""
    if part := _PART.search(path.name):
        raise BadInput(
            f"{path} is part {int(part[1])} of {int(part[2])} of a model. Put the parts together first: llama-gguf-split --merge."
        )
    versions = f"{FORMAT} transformers {transformers.__version__} gguf {_gguf_version()}"
    key = hashlib.sha256(f"{file_digest(path)} {versions}".encode()).hexdigest()[:32]
    place, new = made(cache_root() / "models" / key, lambda folder: _convert(path, folder))
    if new:
        _say(f"{path.name} is kept dequantised in {place} ({size_of(place) / 1e6:,.0f} MB).")
    for note in json.loads((place / NOTES).read_text()):
        _say(f"Warning: {path.name}: {note}")
    return place


def _gguf_version() -> str:
    from importlib.metadata import version

    return version("gguf")


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _convert(path: Path, folder: Path) -> None:
    reader = open_gguf(path)
    architecture = text_of(reader, "general.architecture")
    elements = {tensor.name: int(tensor.n_elements) for tensor in reader.tensors}
    if not elements:
        raise BadInput(f"{path} holds no weights.")
    where: dict[str, Any] = {
        "pretrained_model_name_or_path": str(path.parent),
        "gguf_file": path.name,
        "local_files_only": True,
    }
    try:
        config = AutoConfig.from_pretrained(**where)
        _refuse_differences(path, reader, architecture, config)
        refuse_too_large(str(path), sum(elements.values()), "float32", "cpu")
        tokenizer = AutoTokenizer.from_pretrained(**where)
        model, found = AutoModelForCausalLM.from_pretrained(
            **where, config=config, dtype=torch.float32, output_loading_info=True
        )
    except BadInput:
        raise
    # Its parsers have no error type of their own.
    except (
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        if isinstance(error, (ValueError, KeyError, NotImplementedError)) and _is_unread(error, architecture):
            raise BadInput(
                f"{path} holds a model of architecture {architecture!r}, which transformers {transformers.__version__} does not read "
                "from GGUF. Give the model's own folder (config.json and *.safetensors) instead."
            ) from error
        said = " ".join(str(error).split())[:200]
        raise BadInput(f"{path} ({architecture}) cannot be read as a causal language model: {said}.") from error
    _refuse_gaps(path, model, found, elements)
    notes = _with_own_rule(tokenizer, text_of(reader, "tokenizer.ggml.model"), text_of(reader, "tokenizer.ggml.pre"))
    del reader
    _write(model, tokenizer, folder)
    (folder / NOTES).write_text(json.dumps(notes))


def _is_unread(error: Exception, architecture: str) -> bool:
    said = str(error).lower()
    return (
        "not supported" in said
        or "unrecognized" in said
        or "unknown gguf" in said
        or said.strip("'\"") == architecture.lower()
    )


def _refuse_differences(path: Path, reader: StrictReader, architecture: str, config: Any) -> None:
    """Raises BadInput where the file gives the model numbers that `config` lacks; puts the rotary factors of Llama 3 into it."""
    rope = dict(getattr(config, "rope_parameters", None) or {})
    plain: Mapping[str, Any] = {
        **config.to_dict(),
        "rope_theta": rope.get("rope_theta", getattr(config, "rope_theta", None)),
    }
    for key, name in _SAME.items():
        said, read = _number(reader, f"{architecture}.{key}"), plain.get(name)
        if said is None or isinstance(said, list) or (read is None and said == 0):
            continue
        if not isinstance(read, int | float) or not math.isclose(said, read, rel_tol=1e-5):
            raise BadInput(f"{path} says {key} {said:g}, and transformers reads its model with {name} {read}: another model. Give the "
                           "model's own folder instead.")  # fmt: skip
    scaling = text_of(reader, f"{architecture}.rope.scaling.type")
    if scaling not in ("", "none") and rope.get("rope_type", "default") == "default":
        raise BadInput(f"{path} scales its rotary factors ({scaling}), which transformers does not read from GGUF. Give the model's own "
                       "folder instead.")  # fmt: skip
    factors = {
        tensor.name: np.array(tensor.data, np.float64) for tensor in reader.tensors if tensor.name.startswith("rope_")
    }
    if factors:
        scaled = factors.get("rope_freqs.weight") if architecture == "llama" and len(factors) == 1 else None
        if scaled is None or not _is_llama3(scaled, float(rope["rope_theta"])):
            raise BadInput(f"{path} scales its rotary factors ({', '.join(factors)}) in a way that is not known here. Give the model's own "
                           "folder instead.")  # fmt: skip
        config.rope_parameters = {**rope, "rope_type": "llama3", "factor": float(scaled.max()), **_LLAMA3}


def _number(reader: StrictReader, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None or field.types[0] == gguf.GGUFValueType.STRING else field.contents()


def _is_llama3(scaled: np.ndarray, theta: float) -> bool:
    """Whether what divides the frequencies is Llama 3's rule, with the largest as its factor."""
    wavelength = 2 * math.pi * theta ** (np.arange(len(scaled)) / len(scaled))
    low, high, context = (
        _LLAMA3[name] for name in ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    factor = scaled.max()
    smooth = (context / wavelength - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    rule = np.where(wavelength < context / high, 1.0, np.where(wavelength > context / low, factor, between))
    return bool(np.allclose(scaled, rule, rtol=1e-5))


def _refuse_gaps(path: Path, model: Any, found: Mapping[str, Any], elements: Mapping[str, int]) -> None:
    """Raises BadInput for weights that the file lacks or that were left out of the model, and for NaN."""
    if missing := sorted(found["missing_keys"]):
        raise BadInput(
            f"{path} lacks weights of its model: {', '.join(missing[:4])}{', ...' if len(missing) > 4 else ''}."
        )
    tied = {"output.weight"} if getattr(model.config, "tie_word_embeddings", False) else set()
    read = sum(
        n for name, n in elements.items() if name not in tied and not name.startswith("rope_") and ".nextn." not in name
    )
    own = sum(p.numel() for p in model.parameters())
    if read != own:
        raise BadInput(
            f"{path} holds {read:,} numbers, and transformers makes a model of {own:,} from it: parts of it would be left out."
        )
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise BadInput(f"{path} is corrupt: {name} holds NaN or infinity. Copy the file again.")


def _with_own_rule(tokenizer: PreTrainedTokenizerBase, kind: str, rule: str) -> list[str]:
    """Gives a byte-level tokenizer the rule that its file names, in place. Returns what is to be said of it."""
    if kind != "gpt2":
        return []
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if rule in GGUF_PRE_TOKENIZER_SPLITS:
        split = pre_tokenizers.Split(Regex(GGUF_PRE_TOKENIZER_SPLITS[rule]), behavior="isolated")
        split_first = [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    elif rule in _SINGLE_DIGITS:
        split_first = [pre_tokenizers.Digits(individual_digits=True), whole]
    else:
        split_first = [whole]
    # Whatever the architecture's own tokenizer would do: a file's vocabulary may be another family's.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split_first)
    if len(split_first) > 1 or rule in _LIKE_GPT2:
        return []
    named = f"by a rule {rule!r} that is not known here" if rule else "by a rule that the file does not name"
    return [
        f"its tokenizer splits text {named}; GPT-2's is taken, so the ids of a text may differ from those that the model was trained on."
    ]


def _write(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """A checkpoint folder as any other: what told transformers of the GGUF file is taken off the model."""
    model.config.name_or_path = ""
    for owner, names in (
        (model.config, ("quantization_config",)),
        (model, ("hf_quantizer", "quantization_method", "is_quantized")),
    ):
        for name in names:
            if name in vars(owner):
                delattr(owner, name)
    narrow: dict[int, Tensor] = {}
    state = {}
    for name, value in model.state_dict().items():
        # Tied weights are one tensor, and stay one.
        state[name] = narrow.setdefault(value.data_ptr(), _narrowed(value))
    try:
        model.save_pretrained(folder, state_dict=state)
    except SafetensorError as error:  # it has no number of its own for a full disk
        full = "space" in str(error).lower() or "quota" in str(error).lower()
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error), str(folder)) from error
    tokenizer.save_pretrained(folder)
    # An architecture's own class would make its pre-tokeniser anew; the plain one takes what is written.
    card = folder / "tokenizer_config.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "tokenizer_class": "TokenizersBackend"}, indent=1))


def _narrowed(value: Tensor) -> Tensor:
    """A float32 tensor in the smallest precision that holds every bit of it."""
    if value.dtype == torch.float32:
        for dtype in (torch.bfloat16, torch.float16):
            small = value.to(dtype)
            if torch.equal(small.float().view(torch.int32), value.view(torch.int32)):
                return small
    return value
