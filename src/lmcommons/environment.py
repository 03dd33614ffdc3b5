"""What a result depends on besides its recipe: versions, processor, threads. Recorded beside every result."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from lmcommons import __version__

RECORDED_PACKAGES = (
    "torch", "numpy", "transformers", "tokenizers", "sacrebleu", "tiktoken", "rustbpe", "rensa", "pyarrow",
    "safetensors", "huggingface_hub", "pydantic",
)  # fmt: skip


def describe() -> dict[str, Any]:
    """Versions of Python and of the packages that touch results, processor, threads, memory in bytes, GPU."""
    versions = {}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    found: dict[str, Any] = {
        "lmcommons": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name(),
        "cpu_count": os.cpu_count(),
        "memory": memory(),
        "packages": versions,
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch_threads"] = torch.get_num_threads()
        found["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return found


def machine() -> str:
    """The machine in a few words: its GPU, where PyTorch has one, its processor and threads."""
    torch = sys.modules.get("torch")
    gpus = [torch.cuda.get_device_name()] if torch is not None and torch.cuda.is_available() else []
    return ", ".join([*gpus, processor_name(), f"{os.cpu_count()} threads"])


def processor_name() -> str:
    """The processor's model name as the operating system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def memory() -> int:
    """Physical memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
