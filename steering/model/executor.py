"""The one thing that the engine asks of whatever runs a model: a forward pass with activations edited at sites.

1. An executor is called with the edits of one pass and the model's own inputs, and returns logits.
2. Edits are functions of tensors; the executor decides how they reach the activations, and leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from .hooks import Edit, hooked, resumed
from .layout import Layout
from .lean import Lean
from .sites import Site
from .turns import turn

Resume = tuple[int, Tensor]
"""The layer that a pass begins at, and the stream that enters it, `[rows, positions, d_model]`."""


class Executor(Protocol):
    """Runs forward passes."""

    name: str
    resumes: bool
    """Whether a pass can begin at a later layer."""

    @property
    def config(self) -> Any:
        """Configuration of the model as it is run, attention implementation included."""
        ...

    def holding(self, edits: Mapping[Site, Edit]) -> AbstractContextManager[None]:
        """A context in which passes with these `edits` follow each other."""
        ...

    def picking(self, index: Tensor) -> AbstractContextManager[None]:
        """A context in which logits are computed at one of the kept positions of each row, `index [rows]`, where that can be done: the
        logits are then `[rows, 1, vocabulary]`."""
        ...

    def forward(self, edits: Mapping[Site, Edit], inputs: Mapping[str, Any], resume: Resume | None = None) -> Tensor:
        """Logits `[rows, kept positions, vocabulary]` of one pass over a causal model's keyword `inputs`, from `resume` if given."""
        ...


class HookExecutor:
    """The model itself, with hooks for the duration of a pass, or of many where the caller holds them."""

    name = "hooks"
    resumes = True

    def __init__(self, model: Any, layout: Layout, lean: bool = True):
        """`lean` lets passes use the cheaper equals of the model's modules (`lean`), where it has any."""
        self.model, self.layout = model, layout
        self.lean = Lean(model) if lean else None
        self._held: list[Mapping[Site, Edit]] = []
        """Edits whose hooks are in place; their passes use packed weights."""

    @property
    def config(self) -> Any:
        return self.model.config

    def forward(self, edits: Mapping[Site, Edit], inputs: Mapping[str, Any], resume: Resume | None = None) -> Tensor:
        packing = any(held is edits for held in self._held)
        with turn(self.model), nullcontext() if packing else self._prepared(edits, resume):
            if self.lean is None:
                return self.model(**inputs).logits
            with self.lean.used(inputs, packing=packing) as given:
                return self.model(**given).logits

    @contextmanager
    def _prepared(self, edits: Mapping[Site, Edit], resume: Resume | None) -> Iterator[None]:
        with resumed(self.layout, *resume) if resume else nullcontext(), hooked(self.layout, edits):
            yield

    @contextmanager
    def picking(self, index: Tensor) -> Iterator[None]:
        def pick(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden = args[0]
            rows = torch.arange(len(index), device=hidden.device)
            return (hidden[rows, index.to(hidden.device)][:, None], *args[1:])

        head = self.model.get_output_embeddings()
        with turn(self.model):
            handle = None if head is None else head.register_forward_pre_hook(pick)
            try:
                yield
            finally:
                if handle is not None:
                    handle.remove()

    @contextmanager
    def holding(self, edits: Mapping[Site, Edit]) -> Iterator[None]:
        """Keep the hooks of `edits` in place for many passes; between its own passes each edit must leave activations alone."""
        hooks, waits = hooked(self.layout, edits), turn(self.model)
        with waits:
            if self.lean is not None:
                self.lean.look()
            hooks.__enter__()
            self._held.append(edits)
        try:
            yield
        finally:
            with waits:
                self._held = [held for held in self._held if held is not edits]
                hooks.__exit__(None, None, None)
