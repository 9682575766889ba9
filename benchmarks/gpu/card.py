"""What this runs on: the GPU, its driver, and the versions of what computes; changes nothing."""

import subprocess
from importlib import metadata
from typing import Any

import torch

_PACKAGES = ("torch", "sentence-transformers", "transformers", "tokenizers", "numpy")


def facts() -> dict[str, Any]:
    """Return name, memory, driver and CUDA of the GPU; empty where torch sees none."""
    if not torch.cuda.is_available():
        return {}
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "multiprocessors": properties.multi_processor_count,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "driver": _driver(),
        "cuda": torch.version.cuda,
    }


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout.partition("\n")[0].strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def versions() -> dict[str, str]:
    """Return the versions of the packages that do the work."""
    return {name: metadata.version(name) for name in _PACKAGES}
