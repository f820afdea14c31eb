"""Autoencoders from wherever they are (built in, a folder, SAELens' registry) as a `Dictionary`.

1. Nothing in a folder is run: weights are safetensors, arrays of numbers, or go through a weights-only reader (`folders`). Releases that
   publish pickled weights are read by SAELens through torch's weights-only loader.
2. What is returned reads the raw activations of its site. An input scale that was measured in training is folded into the weights; an
   autoencoder that needs one and comes without it is refused, since every activation would be off by that factor.
3. Decoder rows have norm 1 wherever SAELens can fold them without changing which latents are active, so that an activation is in units of
   the residual stream. The card says what was folded (`norm_scale`, `unit_decoder`); reconstructions stay what they were.
4. The site is the one that the autoencoder names. What it does not say is asked for, and what contradicts it is refused.
"""

from __future__ import annotations

import difflib
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from sae_lens import SAE
from sae_lens.constants import SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME
from sae_lens.loading.pretrained_sae_loaders import (
    NAMED_PRETRAINED_SAE_LOADERS,
    get_conversion_loader_name,
    handle_config_defaulting,
)
from sae_lens.loading.pretrained_saes_directory import (
    get_norm_scaling_factor,
    get_pretrained_saes_directory,
    get_releases_for_repo_id,
)

from steering.errors import BadInput, unknown
from steering.model.models import LoadedModel
from steering.model.sites import Site

from .dictionary import Dictionary
from .folders import BROKEN, Found, from_folder, short
from .latents import ARCHITECTURES
from .shipped import SHIPPED

SCALED = "expected_average_only_in"
"""SAELens' name for an input multiplied by sqrt(d_in) / mean norm, measured in training (Anthropic, April 2024 update)."""
_OUTPUT_NAMES = (
    (re.compile(r"blocks\.(\d+)\.hook_out"), "resid_post"),
    (re.compile(r"blocks\.(\d+)\.hook_in"), "resid_pre"),
    (re.compile(r"(?:model\.)?layers\.(\d+)"), "resid_post"),
)
"""Other programs' names of a block's output and input: TransformerLens' bridge, Hugging Face modules."""


def load_dictionary(
    source: str | Path,
    *,
    site: Site | str | None = None,
    model: LoadedModel | None = None,
    norm_scale: float | None = None,
    converter: Callable[..., Any] | None = None,
) -> Dictionary:
    """Load one that comes with the package (`shipped.SHIPPED`, such as `builtin:base`; a folder of such a name is given as `./NAME`), a
    folder (of SAELens or another trainer, see `folders`), or `release/id` of SAELens' registry; float32, CPU.

    `norm_scale`: what raw activations were multiplied by in training, where `normalize_activations` is `expected_average_only_in` and
    the scale is not stored. `converter`: a SAELens loader for another layout on disk or on the hub. `model`: check width and site; where
    the autoencoder was trained on other weights than the model's, or does not say on which, the card's `remarks` say so
    (`Dictionary.origin`).

    Raises BadInput for what does not exist, cannot be reached, is corrupt, holds NaN, or has a form whose latents cannot be edited.
    """
    name = str(source)
    if name in SHIPPED or name.startswith("builtin:"):
        if name not in SHIPPED:
            raise unknown("autoencoder", name, SHIPPED)
        folder = SHIPPED[name].folder
        if not (folder / SAE_CFG_FILENAME).is_file():
            raise BadInput(
                f"{name} has no autoencoder yet ({folder.parent.name}/sae is empty); train one with train_sae."
            )
        found = from_folder(folder, name, converter)
    elif (folder := Path(source).expanduser()).is_dir():
        name = folder.resolve().parent.name if folder.resolve().name == "sae" else folder.resolve().name
        found = from_folder(folder, name, converter)
    elif isinstance(source, Path) or name.startswith((".", "/", "~")):
        raise BadInput(
            f"No folder at {name}. Give a folder with {SAE_CFG_FILENAME} and {SAE_WEIGHTS_FILENAME}, or another trainer's, or release/id."
        )
    else:
        found = _from_registry(name, converter)
    where = _where(found, site)
    facts = {
        "source": found.name,
        "architecture": found.sae.cfg.architecture(),
        "hook_name": found.hook,
        **_folded(found, norm_scale),
    }
    dictionary = Dictionary(found.name, found.sae, where, {**(found.card or {}), **facts})
    if model is not None:
        dictionary.check(model)
        if said := dictionary.origin(model):
            remarks = [*dictionary.card.get("remarks", ()), said]
            dictionary = replace(dictionary, card={**dictionary.card, "remarks": remarks})
    return dictionary


def _from_registry(name: str, converter: Callable[..., Any] | None) -> Found:
    directory = get_pretrained_saes_directory()
    release, _, identifier = name.partition("/")
    if release not in directory:
        known = get_releases_for_repo_id("/".join(name.split("/")[:2]))
        near = known or difflib.get_close_matches(release, directory, n=5, cutoff=0.4)
        hint = f" Near it: {', '.join(near)}." if near else ""
        raise BadInput(
            f"{release!r} is neither a folder here nor one of the {len(directory)} releases that SAELens knows.{hint} Give release/id, or "
            f"one that comes with the package: {', '.join(SHIPPED)}."
        )
    identifiers = directory[release].saes_map
    if identifier not in identifiers:
        raise unknown("autoencoder", identifier, identifiers, where=f"release {release}")
    loader = converter or NAMED_PRETRAINED_SAE_LOADERS[get_conversion_loader_name(release)]
    scaled = False

    def read(*args: Any, **kwargs: Any) -> Any:
        nonlocal scaled
        config, *rest = loader(*args, **kwargs)
        scaled = handle_config_defaulting(config).get("normalize_activations") == SCALED
        return config, *rest

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="norm_scaling_factor not found"
            )  # refused below, with what to pass
            sae, _, _ = SAE.from_pretrained_with_cfg_and_sparsity(release, identifier, device="cpu", converter=read)
    except BadInput:
        raise
    except (LocalEntryNotFoundError, ConnectionError, TimeoutError) as error:
        raise BadInput(
            f"{name} is not on this machine and the hub cannot be reached ({short(error)}). Load it once with a network "
            f"connection, or give the folder of a copy."
        ) from error
    except BROKEN as error:
        raise BadInput(f"{name} cannot be loaded from {directory[release].repo_id}: {short(error)}") from error
    folded = get_norm_scaling_factor(release, identifier) if scaled else None
    return Found(name, sae, sae.cfg.metadata.hook_name, folded=folded)


def _where(found: Found, asked: Site | str | None) -> Site:
    known = _site_of(found.hook)
    given = None if asked is None else Site.parse(asked)
    if given is not None and known is not None and given != known:
        raise BadInput(f"{found.name} was trained at {known}, not at {given}; leave site out.")
    if given is None and known is None:
        said = f"names {found.hook!r}, which is not a site" if found.hook else "does not say where it was trained"
        raise BadInput(f"{found.name} {said}; pass site, such as site='blocks.2.hook_resid_post'.")
    return known or given  # type: ignore[return-value]


def _site_of(hook: str | None) -> Site | None:
    for pattern, kind in _OUTPUT_NAMES:
        match = pattern.fullmatch(hook or "")
        if match:
            return Site(int(match[1]), kind)  # type: ignore[arg-type]
    try:
        return Site.parse(hook or "")
    except BadInput:
        return None


def _folded(found: Found, asked: float | None) -> dict[str, Any]:
    """Folds scale and decoder norms into the weights, in place; returns what was done."""
    sae, name = found.sae, found.name
    architecture = sae.cfg.architecture()
    if architecture not in ARCHITECTURES:
        raise BadInput(
            f"{name} is a {architecture} autoencoder; latents of {', '.join(ARCHITECTURES)} can be read here."
        )
    for key, value in sae.state_dict().items():
        if not torch.isfinite(value).all():
            raise BadInput(
                f"{name}: {key} holds NaN or infinity; the file was written by a run that diverged, or is corrupt."
            )
    if sae.cfg.normalize_activations == "covariance_whitening":
        raise BadInput(
            f"{name} reads whitened activations; fold the whitening first (fold_activation_whitening) and save it."
        )
    stored = found.folded or found.scale
    if asked is not None and stored is not None and not math.isclose(asked, stored, rel_tol=1e-4):
        raise BadInput(f"{name} was trained with an input scale of {stored:g}, not {asked:g}; leave norm_scale out.")
    scale = found.folded
    if sae.cfg.normalize_activations == SCALED:
        scale = asked if asked is not None else found.scale
        if scale is None:
            raise BadInput(
                f"{name} was trained on activations multiplied by a factor that is not stored with it; pass norm_scale, "
                f"sqrt({sae.cfg.d_in}) / mean norm of the training activations."
            )
        if not (math.isfinite(scale) and scale > 0):
            raise BadInput(f"{name}: an input scale of {scale} is not a positive number.")
        sae.fold_activation_norm_scaling_factor(scale)
    elif asked is not None and found.folded is None:
        raise BadInput(f"{name} reads activations as they are ({sae.cfg.normalize_activations}); leave norm_scale out.")
    unit = architecture != "topk" or bool(sae.cfg.rescale_acts_by_decoder_norm)
    if unit:
        sae.fold_W_dec_norm()
    sae.requires_grad_(False)
    return {"norm_scale": scale, "unit_decoder": unit}
