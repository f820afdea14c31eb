"""Training a pair end to end: pretrain the base, GRPO the thinking model, and put both where `builtin:` finds them.

1. Every stage resumes; a finished stage is not run again.
2. `install` replaces the shipped weights; without it nothing outside the folder changes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from steering.errors import unknown
from steering.model.sources import BUILTIN_FOLDER

from .grpo import train_thinking
from .presets import PRESETS, UNTRACED
from .pretrain import pretrain

SHIPPED = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def train_pair(preset_name: str, folder: Path, *, install: bool = False) -> tuple[Path, Path]:
    """Train both models of a preset under `folder`; returns their checkpoint folders. Raises BadInput for an unknown preset."""
    if preset_name not in PRESETS:
        raise unknown("preset", preset_name, PRESETS)
    preset = PRESETS[preset_name]
    base, thinking = folder / "base", folder / "thinking"
    if not (base / "model.safetensors").exists():
        pretrain(preset, folder)
    if not (thinking / "model.safetensors").exists():
        train_thinking(preset, base, folder)
    if install:
        for source, name in zip((base, thinking), preset.names, strict=True):
            install_model(source, name)
    return base, thinking


def install_model(source: Path, name: str) -> Path:
    """Copy a finished checkpoint over the built-in model `builtin:NAME`."""
    target = BUILTIN_FOLDER / name
    target.mkdir(parents=True, exist_ok=True)
    for name in SHIPPED:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    return target


def train_untraced(folder: Path, *, install: bool = False) -> Path:
    """Pretrain `builtin:untraced` under `folder`; returns its checkpoint folder. A finished one is not trained again."""
    target = folder / UNTRACED.name
    if not (target / "model.safetensors").exists():
        pretrain(UNTRACED, folder, UNTRACED.name)
    if install:
        install_model(target, UNTRACED.name)
    return target
