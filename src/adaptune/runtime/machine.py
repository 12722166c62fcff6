"""What this ran on."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch


def describe_machine() -> dict[str, Any]:
    """Say what this ran on, so that numbers can be compared: machine and versions."""
    from importlib.metadata import version

    packages = ("adaptune", "torch", "torchvision", "timm", "scikit-learn")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    if torch.backends.mps.is_available():
        gpu = "mps"
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "gpu": gpu,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }
