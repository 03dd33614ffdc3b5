"""How the process holds on to memory between steps."""

import ctypes
import platform

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
