"""Training autoencoders on a model's activations, by SAELens' own trainer.

1. The architectures, losses and schedules are SAELens'; the activations are streamed from any model (`activation_stream`).
2. An interrupted training goes on from its last checkpoint: weights, optimiser, schedules and the place in the stream.
3. What is saved is an ordinary SAELens folder, with a card of how it was trained beside it.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from sae_lens import (
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    JumpReLUTrainingSAE,
    JumpReLUTrainingSAEConfig,
    StandardTrainingSAE,
    StandardTrainingSAEConfig,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
)
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.constants import SAE_WEIGHTS_FILENAME
from sae_lens.training.sae_trainer import SAETrainer
from safetensors.torch import load_file, save

from steering.errors import BadInput, unknown
from steering.files import write_file
from steering.model.models import LoadedModel
from steering.model.sinks import sinks_of
from steering.model.sites import Site

from .stream import activation_stream

CARD = "training.json"
LATER = ("keep_sinks", "hold", "stored")
"""Settings that cards name only where they are not the default: older cards lack them."""
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BUFFERED = 16
"""Batches that the shuffling buffer holds at most; never more than the training draws."""


@dataclass(frozen=True)
class TrainingSpec:
    """How an autoencoder is trained."""

    architecture: Literal["topk", "batchtopk", "jumprelu", "standard"] = "topk"
    latents: int = 1024
    k: int = 16
    """topk, batchtopk: latents active per position (on average, for batchtopk)."""
    sparsity: float = 1.0
    """jumprelu: weight of L0; standard: weight of the decoder-norm-weighted L1."""
    activations: int = 2_000_000
    """Positions to train on; those of few sequences are seen several times."""
    batch: int = 2048
    learning_rate: float = 1e-3
    warm_up: float = 0.02
    """Share of the steps."""
    decay: float = 0.2
    """Share of the steps, at the end, over which the learning rate falls to nothing."""
    checkpoints: int = 4
    seed: int = 0
    keep_sinks: bool = False
    """Train on attention sinks too, which can hold nearly all of the variance (`steering.model.sinks`)."""
    hold: bool = False
    """Hold the activations of the texts in memory, in bfloat16, where they are seen several times: the model reads them once."""
    stored: Literal["float32", "bfloat16"] = "float32"
    """Precision that the encoder and decoder matrices are stored in; thresholds and biases stay float32."""

    def __post_init__(self) -> None:
        if self.architecture not in MAKERS:
            raise unknown("architecture", self.architecture, MAKERS)
        if self.stored not in PRECISIONS:
            raise unknown("precision", self.stored, PRECISIONS)
        if self.architecture in ("topk", "batchtopk") and not 0 < self.k <= self.latents:
            raise BadInput(f"k {self.k} does not fit {self.latents} latents.")
        if self.activations < self.batch:
            raise BadInput(f"{self.activations} activations are less than one batch of {self.batch}.")

    @property
    def steps(self) -> int:
        return self.activations // self.batch


def _topk(spec: TrainingSpec, common: dict[str, Any]) -> Any:
    return TopKTrainingSAE(TopKTrainingSAEConfig(k=spec.k, **common))


def _batchtopk(spec: TrainingSpec, common: dict[str, Any]) -> Any:
    return BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(k=float(spec.k), **common))  # type: ignore[arg-type]


def _jumprelu(spec: TrainingSpec, common: dict[str, Any]) -> Any:
    warm = max(1, spec.steps // 20)
    return JumpReLUTrainingSAE(JumpReLUTrainingSAEConfig(l0_coefficient=spec.sparsity, l0_warm_up_steps=warm, **common))


def _standard(spec: TrainingSpec, common: dict[str, Any]) -> Any:
    warm = max(1, spec.steps // 20)
    return StandardTrainingSAE(StandardTrainingSAEConfig(l1_coefficient=spec.sparsity, l1_warm_up_steps=warm, **common))


MAKERS: dict[str, Callable[[TrainingSpec, dict[str, Any]], Any]] = {
    "topk": _topk,
    "batchtopk": _batchtopk,
    "jumprelu": _jumprelu,
    "standard": _standard,
}


def train_sae(
    model: LoadedModel, sequences: Sequence[Sequence[int]], site: Site, spec: TrainingSpec, folder: Path | str
) -> Path:
    """Train on the activations of `sequences` (ids with BOS) at `site`, or go on with a training in `folder` that was interrupted.

    Returns the folder of the finished autoencoder (`folder/sae`). Raises BadInput when `folder` holds another training.
    """
    model.layout.check(site)
    folder = Path(folder)
    usual = {f.name: f.default for f in fields(spec) if f.name in LATER}
    card = {
        "spec": {k: v for k, v in asdict(spec).items() if k not in usual or v != usual[k]},
        "site": site.name,
        "model": model.fingerprint,
        "model_id": model.id,
        "sequences": len(sequences),
        "tokens": sum(map(len, sequences)),
    }
    if sinks := sinks_of(model):
        card["sinks"] = {
            "positions": list(sinks.positions),
            "left_out": not spec.keep_sinks,
            "ratio": round(sinks.ratio, 1),
        }
    known = folder / CARD
    if known.exists() and json.loads(known.read_text()) != json.loads(json.dumps(card)):
        raise BadInput(f"{folder} holds a training of something else ({CARD} differs); choose another folder.")
    finished = folder / "sae"
    if finished.exists():
        return finished
    folder.mkdir(parents=True, exist_ok=True)
    write_file(known, json.dumps(card, indent=1).encode())
    torch.manual_seed(spec.seed)
    width = model.layout.width(site)
    device = str(model.device)
    sae = MAKERS[spec.architecture](
        spec,
        {
            "d_in": width,
            "d_sae": spec.latents,
            "device": device,
            "dtype": "float32",
            "normalize_activations": "expected_average_only_in",
        },
    )
    config = SAETrainerConfig(
        total_training_samples=spec.steps * spec.batch,
        train_batch_size_samples=spec.batch,
        lr=spec.learning_rate,
        lr_end=spec.learning_rate / 10,
        lr_warm_up_steps=int(spec.warm_up * spec.steps),
        lr_decay_steps=int(spec.decay * spec.steps),
        device=device,
        dead_feature_window=max(100, spec.steps // 10),
        feature_sampling_window=max(100, spec.steps // 5),
        n_checkpoints=spec.checkpoints,
        checkpoint_path=str(folder / "checkpoints"),
        logger=LoggingConfig(log_to_wandb=False),
        n_batches_for_norm_estimate=min(50, spec.steps),
    )
    latest = _latest(folder / "checkpoints")
    scaling = config.n_batches_for_norm_estimate
    drawn = 0 if latest is None else scaling + latest[0] // spec.batch
    stream = activation_stream(
        model, sequences, site, batch=spec.batch, buffer=BUFFERED * spec.batch, seed=spec.seed, skip=drawn,
        keep_sinks=spec.keep_sinks, hold=spec.hold, batches=scaling + spec.steps,
    )  # fmt: skip
    trainer = SAETrainer(config, sae, stream)
    if latest is not None:
        sae.load_weights_from_checkpoint(latest[1])
        trainer.load_trainer_state(latest[1])
        trainer.n_training_steps = latest[0] // spec.batch  # a checkpoint is written before its step is counted
        trainer.checkpoint_thresholds = [n for n in trainer.checkpoint_thresholds if n > latest[0]]
    trained = trainer.fit()
    partial = folder / "sae.partial"
    shutil.rmtree(partial, ignore_errors=True)
    trained.cfg.metadata.hook_name = site.name
    trained.cfg.metadata.model_name = model.id
    try:
        trained.save_inference_model(partial)
        _order(partial / "cfg.json")
        _rounded(partial / SAE_WEIGHTS_FILENAME, PRECISIONS[spec.stored])
        shutil.copy(known, partial / CARD)
        partial.replace(finished)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return finished


def _order(path: Path) -> None:
    """Put the keys of a JSON file in order: the library writes them in another order every time."""
    write_file(path, (json.dumps(json.loads(path.read_text()), indent=1, sort_keys=True) + "\n").encode())


def _rounded(path: Path, dtype: torch.dtype) -> None:
    """Store the matrices of a file of weights in `dtype`."""
    if dtype != torch.float32:
        tensors = {name: value.to(dtype) if value.ndim > 1 else value for name, value in load_file(path).items()}
        write_file(path, save(tensors))


def _latest(folder: Path) -> tuple[int, Path] | None:
    """Activations trained on before the last whole checkpoint, and its folder."""
    found = []
    for state in folder.glob("*/trainer_state.pt"):
        try:
            seen = int(torch.load(state, map_location="cpu", weights_only=True)["n_training_samples"])
            json.loads((state.parent / "activation_scaler.json").read_text())  # what a checkpoint ends with
        except (OSError, ValueError, RuntimeError, KeyError, EOFError, pickle.UnpicklingError):
            continue  # cut short while it was written
        found.append((seen, state.parent))
    return max(found, default=None)
