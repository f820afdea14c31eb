"""What a run depends on outside of this project: versions, processor, memory, devices, where models come from, where runs go."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import psutil
import torch

PACKAGES = (
    "torch",
    "transformers",
    "transformer-lens",
    "sae-lens",
    "nnsight",
    "streamlit",
    "plotly",
    "duckdb",
    "pyarrow",
    "math-verify",
)
OPTIONAL = {
    "ray": "sweeps on many machines",
    "bitsandbytes": "8- and 4-bit weights",
    "peft": "adapters",
    "accelerate": "device_map",
    "s3fs": "runs under s3://",
    "gcsfs": "runs under gs://",
    "reasoning_gym": "reasoning-gym tasks",
    "wandb": "--track wandb",
    "trackio": "--track trackio",
    "mlflow": "--track mlflow",
}  # fmt: skip
GIB = 2**30


def machine_facts(runs: str = "runs") -> dict[str, Any]:
    """Versions, processor, memory in GiB, devices, model cache, run store."""
    memory = psutil.virtual_memory()
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "optional": {name: importlib.util.find_spec(name) is not None for name in OPTIONAL},
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(memory.total / GIB, 1),
        "free_memory_gib": round(memory.available / GIB, 1),
        "devices": _devices(),
        "models": {
            "cache": os.environ.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface"),
            "offline": os.environ.get("HF_HUB_OFFLINE", "0") not in ("0", "", "false"),
        },
        "runs": _store(runs),
    }


def _devices() -> list[dict[str, Any]]:
    found = []
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        found.append({
            "device": f"cuda:{index}",
            "name": facts.name,
            "memory_gib": round(total / GIB, 1),
            "free_memory_gib": round(free / GIB, 1),
            "bfloat16": torch.cuda.is_bf16_supported(),
        })  # fmt: skip
    return found or [{"device": "cpu", "name": platform.processor() or platform.machine()}]


def _store(runs: str) -> dict[str, Any]:
    if "://" in runs:
        return {"url": runs}
    folder = Path(runs).absolute()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return {
        "folder": str(folder),
        "exists": folder.is_dir(),
        "writable": os.access(there, os.W_OK),
        "free_gib": round(shutil.disk_usage(there).free / GIB, 1),
    }
