"""What reads prompts for a model without its weights: its tokenizer and its configuration.

1. The ids of a prompt are those that the loaded model would be fed: both take their tokenizer from the same files.
2. Layers, widths and context come from the configuration. The residual stream's sites are known from it; those inside a layer are found
   by a forward pass, which only a loaded model can make.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from .adapters import base_of, has_tokenizer
from .deltas import delta_facts
from .layout import Block, Layout, text_config
from .memory import parameters_of
from .sources import find_source, refusal


class Reads(Protocol):
    """What can encode prompts: a loaded model, or a `Reader`."""

    @property
    def id(self) -> str: ...

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...

    @property
    def extra(self) -> dict[str, Any]: ...


class Sited(Reads, Protocol):
    """What plans can be laid out on: it has sites, too."""

    @property
    def layout(self) -> Layout: ...


@dataclass(frozen=True)
class Reader:
    """A model's tokenizer and the facts of its configuration."""

    id: str
    tokenizer: PreTrainedTokenizerBase
    config: Any
    place: Path | str
    """Where its files lie: the folder or hub id."""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def n_layers(self) -> int:
        return int(text_config(self.config).num_hidden_layers)

    @property
    def d_model(self) -> int:
        return int(text_config(self.config).hidden_size)

    @cached_property
    def parameters(self) -> int:
        """How many numbers its weights are (of an adapter: its base's)."""
        return parameters_of(self.place, self.config)

    @property
    def context(self) -> int:
        """Longest sequence in tokens that the configuration states; very large when it states none."""
        return int(getattr(text_config(self.config), "max_position_embeddings", 0) or 2**31)

    @cached_property
    def layout(self) -> Layout:
        """Sites of the residual stream, between the layers. Its modules stand for those of the model and compute nothing."""
        return Layout(tuple(Block(nn.Linear(1, 1)) for _ in range(self.n_layers)), self.d_model)


def load_tokenizer(source: str | Path, **kwargs: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint, of the class that it declares.

    `AutoTokenizer` picks by model type for some architectures (qwen2 among them) and would silently replace a plain `tokenizer.json`
    by that architecture's own pre-tokeniser; a checkpoint that declares a plain one gets it.
    """
    declared = get_tokenizer_config(str(source), **kwargs).get("tokenizer_class")
    plain = declared in ("TokenizersBackend", "PreTrainedTokenizerFast")
    return (PreTrainedTokenizerFast if plain else AutoTokenizer).from_pretrained(source, **kwargs)


def load_reader(
    name: str, *, revision: str | None = None, trust_remote_code: bool = False, base: str | None = None
) -> Reader:
    """The reader of a model, named as for `load_model`. Raises BadInput as `load_model` for what is not there or cannot be read."""
    source = find_source(name)
    if source.is_delta:
        under = load_reader(
            base or str(delta_facts(Path(source.place))["base"]), revision=revision, trust_remote_code=trust_remote_code
        )
        return Reader(name, under.tokenizer, under.config, under.place)
    model, own = source, source
    if source.is_adapter:
        model = find_source(base or base_of(source))
        own = source if has_tokenizer(source) else model
    kwargs: dict[str, Any] = {"trust_remote_code": trust_remote_code, **({"revision": revision} if revision else {})}
    place = model.checkpoint()
    try:
        config = AutoConfig.from_pretrained(place, **kwargs)
        tokenizer = load_tokenizer(place if own is model else own.checkpoint(), **kwargs)
    except (OSError, ValueError) as error:
        raise refusal(model, error, revision) from error
    return Reader(name, tokenizer, config, place)
