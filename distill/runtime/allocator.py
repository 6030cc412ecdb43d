"""Memory of CPU training, kept from step to step.

glibc returns blocks of over 32 MiB, and the top of its heap, to the system when they are freed. Feature maps are such
blocks: every layer of every step would then get zeroed pages from the system again, which costs more than the
arithmetic of most layers (docs/training-speed.md).
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # From glibc's malloc.h.


def keep_freed_memory() -> bool:
    """Lets this process, and those forked from it later, keep freed memory for their next allocation.

    No value is affected. The process keeps its peak memory until it ends.

    **Returns:** whether the C library supports it; only glibc on Linux does.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # Another C library.
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, -1)) and bool(mallopt(_M_MMAP_MAX, 0))
