"""Models from GGUF files (llama.cpp's format), converted once into a checkpoint folder of the cache.

1. Weights, configuration, tokenizer and chat template are what transformers reads from the file, dequantised. A weight is stored in the
   smallest precision that holds it bit for bit, so that loading the folder gives the numbers that transformers gives in float32.
2. A file that is corrupt or cut short, is one part of several, or is of an architecture that transformers does not read, is refused in one
   sentence; nothing is then left in the cache.
3. So is a file of which transformers would leave something out of the model (`gguf_differences`).
4. A byte-level tokenizer splits text before it merges bytes, by a rule that the file names. transformers takes GPT-2's for a rule that it
   does not know, or that of the architecture; here the file's rule holds, and one that is not known is told of at every load.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from tokenizers import Regex, pre_tokenizers
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from ..errors import BadInput, listed
from .cached import cache_root, file_digest, made, size_of
from .gguf_differences import refuse_differences, refuse_gaps, unread
from .gguf_files import open_gguf, text_of
from .memory import refuse_too_large
from .weight_files import has_weights

FORMAT = "1"
"""Version of what is written here; part of the cache's names."""
NOTES = "notes.json"
_BROKEN = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, NotImplementedError)
"""What transformers' parsers raise, which have no error type of their own."""
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_LIKE_GPT2 = frozenset({"gpt-2", "phi-2", "mpt", "olmo", "jais"})
_SINGLE_DIGITS = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell"})
"""Rules of llama.cpp (`llama-vocab.cpp`) that are GPT-2's, and that are GPT-2's after each digit is set apart."""


def gguf_in(folder: Path) -> Path | None:
    """The GGUF file of a folder that holds no other weights; None where it holds none. Raises BadInput where it holds several."""
    found = sorted(folder.glob("*.gguf"))
    if not found or has_weights(folder):
        return None
    if len(found) > 1 and not _PART.search(found[0].name):
        shown = listed((path.name for path in found), 8)
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
    try:
        # Alone in a folder: a tokenizer_config.json that happens to lie beside the file is none of its own.
        with TemporaryDirectory() as alone:
            (Path(alone) / "model.gguf").symlink_to(path.resolve())
            where: dict[str, Any] = {
                "pretrained_model_name_or_path": alone,
                "gguf_file": "model.gguf",
                "local_files_only": True,
            }
            config = AutoConfig.from_pretrained(**where)
            refuse_differences(path, reader, architecture, config)
            refuse_too_large(str(path), sum(elements.values()), "float32", "cpu")
            tokenizer = AutoTokenizer.from_pretrained(**where)
            model, found = AutoModelForCausalLM.from_pretrained(
                **where, config=config, dtype=torch.float32, output_loading_info=True
            )
    except BadInput:
        raise
    except _BROKEN as error:
        if isinstance(error, (ValueError, KeyError, NotImplementedError)) and _is_unread(error, architecture):
            raise BadInput(
                f"{path} holds a model of architecture {architecture!r}, which transformers {transformers.__version__} does not read "
                "from GGUF. Give the model's own folder (config.json and *.safetensors) instead."
            ) from error
        said = " ".join(str(error).split())[:200]
        raise BadInput(f"{path} ({architecture}) cannot be read as a causal language model: {said}.") from error
    refuse_gaps(path, model, found, elements)
    notes = unread(reader, architecture, config)
    notes += _with_own_rule(tokenizer, text_of(reader, "tokenizer.ggml.model"), text_of(reader, "tokenizer.ggml.pre"))
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
