"""What a step keeps in memory, and how the process holds on to memory between steps."""

import ctypes
import platform
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from lmcommons.model.stack import Layer

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # mallopt(3)
NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Let the C library reuse large blocks instead of giving them back to the system at once.

    A step allocates and frees the same tens of megabytes (logits above all) again and again; by default glibc maps each
    afresh, and the system zeroes every page of it: about a fifth of a training step on a processor. The peak stays the
    same. Holds for the rest of the process; does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)


def recompute_layers(model: nn.Module) -> None:
    """Keep of each layer only what it reads, and compute it again when its gradient is (Chen et al. 2016).

    Losses and gradients stay the same to the bit, dropout included; a step takes about a third longer.
    """
    for module in model.modules():
        if isinstance(module, Layer):
            module.forward = partial(checkpoint, module.forward, use_reentrant=False)  # type: ignore[method-assign]
