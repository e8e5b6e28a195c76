"""Keep freed memory in the process: an attack frees and needs the same buffers again at every step.

glibc hands blocks of over 128 kB back to the system as soon as they are free, and the system clears every page again
when the next step asks for it. On a small convolutional network and a batch of 128 that was 14,000 page faults and
12 % of a step; on networks of the zoo it is between nothing and 29 % (docs/speed.md).
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # glibc refuses more


def keep_memory() -> bool:
    """Ask glibc, for the whole process and for good, not to return memory that has been freed.

    The process keeps what it needed at its peak. Nothing happens where the user has tuned malloc in the environment
    (``MALLOC_*_``, ``GLIBC_TUNABLES``), or with another C library.

    Returns:
        Whether glibc agreed.
    """
    if not sys.platform.startswith("linux"):
        return False
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    below = library.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    return bool(below and library.mallopt(_TRIM_THRESHOLD, 2**31 - 1))
