"""Edits of activations as hooks on a model's modules, for as long as a context lasts.

1. Hooks are installed by a context manager, in forward order, and are gone when it exits, whatever happened inside.
2. An edit of resid_mid is made on what attention adds, so that it reaches both the MLP and the stream.
3. A pass can begin at a later layer with a given stream; the layers before it neither compute nor touch the cache.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .layout import Block, Layout
from .sites import Site

Edit = Callable[[Tensor], Tensor | None]
"""Takes activations `[batch, position, width]`; returns their replacement, or None to leave them."""


def first_output(output: Any) -> Any:
    """What a module returns, or the first part of it."""
    return output[0] if isinstance(output, tuple) and output else output


@contextmanager
def hooked(layout: Layout, edits: Mapping[Site, Edit]) -> Iterator[None]:
    """Run `edits` at their sites for the duration of the context: none left afterwards, whatever happens inside."""
    handles: list[RemovableHandle] = []
    try:
        for site, edit in sorted(edits.items(), key=lambda pair: pair[0].order) if len(edits) > 1 else edits.items():
            if site.kind != "z":
                handles += _hooks(layout.blocks[layout.check(site).layer], site.kind, edit)
        handles += _head_hooks(layout, edits)
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hooks(block: Block, kind: str, edit: Edit) -> list[RemovableHandle]:
    if kind == "resid_post":
        return [block.layer.register_forward_hook(_post_hook(edit))]
    if kind == "resid_pre":
        return [block.layer.register_forward_pre_hook(_pre_hook(edit), with_kwargs=True)]
    if kind == "resid_mid":
        assert block.attention is not None
        stream: dict[str, Tensor] = {}
        return [
            block.layer.register_forward_pre_hook(_note_hook(stream), with_kwargs=True),
            block.attention.register_forward_hook(_mid_hook(edit, stream)),
        ]
    module = block.attention if kind == "attn_out" else block.mlp
    assert module is not None
    return [module.register_forward_hook(_post_hook(edit))]


def _head_hooks(layout: Layout, edits: Mapping[Site, Edit]) -> list[RemovableHandle]:
    heads: dict[int, dict[int, Edit]] = defaultdict(dict)
    for site, edit in edits.items():
        if site.kind == "z":
            assert layout.check(site).head is not None
            heads[site.layer][site.head or 0] = edit
    handles = []
    for index, wanted in heads.items():
        projection = layout.blocks[index].projection
        assert projection is not None
        handles.append(projection.register_forward_pre_hook(_head_hook(wanted, layout.d_head), with_kwargs=True))
    return handles


@contextmanager
def resumed(layout: Layout, layer: int, hidden: Tensor) -> Iterator[None]:
    """Let a forward pass begin at `layer` with the stream `hidden [batch, position, d_model]`: the layers before it are passed over, and
    neither compute nor touch the cache. Put it around `hooked`, so that edits at the layer's input meet `hidden`."""
    passed = layout.layers[:layer]

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key, _ = _given(args, kwargs)
        return _replaced(key, hidden, args, kwargs)

    with ExitStack() as stack:
        for module in passed:
            stack.callback(_forget_forward, module, module.__dict__.get("forward"))
            module.forward = _pass_through  # type: ignore[assignment]
        stack.callback(layout.layers[layer].register_forward_pre_hook(enter, with_kwargs=True).remove)
        yield


def _pass_through(*args: Any, **kwargs: Any) -> Tensor:
    return _given(args, kwargs)[1]


def _forget_forward(module: nn.Module, own: Any) -> None:
    """Give a module back the `forward` of its class, or its own if it had one."""
    if own is None:
        del module.__dict__["forward"]
    else:
        module.forward = own


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str | None, Tensor]:
    """Keyword (None when positional) and value of a module's activation argument."""
    if args:
        return None, args[0]
    key = "hidden_states" if "hidden_states" in kwargs else next(k for k, v in kwargs.items() if isinstance(v, Tensor))
    return key, kwargs[key]


def _replaced(key: str | None, value: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return ((value, *args[1:]), kwargs) if key is None else (args, {**kwargs, key: value})


def _pre_hook(edit: Edit) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key, hidden = _given(args, kwargs)
        edited = edit(hidden)
        return None if edited is None else _replaced(key, edited, args, kwargs)

    return hook


def _head_hook(edits: Mapping[int, Edit], d_head: int) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key, z = _given(args, kwargs)
        copy = None
        for head, edit in sorted(edits.items()):
            part = slice(head * d_head, (head + 1) * d_head)
            edited = edit(z[..., part])
            if edited is not None:
                copy = z.clone() if copy is None else copy
                copy[..., part] = edited
        return None if copy is None else _replaced(key, copy, args, kwargs)

    return hook


def _note_hook(stream: dict[str, Tensor]) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        stream["pre"] = _given(args, kwargs)[1]

    return hook


def _mid_hook(edit: Edit, stream: dict[str, Tensor]) -> Callable[..., Any]:
    """Edits resid_mid through what attention adds: the stream carries resid_pre past attention unchanged, so a change of the sum is
    a change of the summand."""

    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        added = first_output(output)
        middle = stream["pre"] + added
        edited = edit(middle)
        if edited is None:
            return None
        changed = torch.where((edited == middle).all(-1, keepdim=True), added, edited - stream["pre"])
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return hook


def _post_hook(edit: Edit) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        plain = isinstance(output, Tensor)
        edited = edit(output if plain else output[0])
        if edited is None:
            return None
        return edited if plain else (edited, *output[1:])

    return hook
