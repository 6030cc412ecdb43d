"""Memory of CPU training, kept between steps.

glibc gives blocks of over 32 MiB back to the system when they are freed, and the top of its heap too. A network's maps
are such blocks: every layer of every step then pays the system for zeroed pages again, which costs more than most
layers' arithmetic (docs/training-speed.md).
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # From glibc's malloc.h.


def keep_freed_memory() -> bool:
    """Lets this process, and those it forks from here on, keep freed memory for their next allocation.

    Values are not affected; the process holds what it once needed until it ends.

    **Returns:** whether the C library took it; only glibc's on Linux does.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # Another C library.
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, -1)) and bool(mallopt(_M_MMAP_MAX, 0))
