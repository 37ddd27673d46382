"""Keeps the memory that a network's process frees for reuse, and explains when it runs out."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pttfaces.errors import ParamsError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_NEVER = -1
# Bytes from which an allocation gets its own mapping. Older glibc accept 32 MiB at most.
_MMAP_THRESHOLDS = (2**30, 2**25)

# On a CPU and on Apple's GPUs torch raises a bare RuntimeError, known by its text alone.
_OUT_OF_MEMORY = ("allocate memory", "out of memory")


def keep_freed_memory() -> None:
    """Lets this process keep the memory that it frees, for its next allocations.

    glibc returns large blocks to the kernel, which clears each page when it hands them out again. A
    network on a CPU allocates the same large blocks in every layer of every step, and may spend
    more time on pages than on arithmetic. The peak grows by the gaps between blocks in one heap, by
    a third at most in what was measured. Meant for the main thread: other threads' heaps end at
    64 MiB, and larger blocks go back. Other C libraries are left as they are.

    Source: mallopt(3).
    """
    if sys.platform != "linux":
        return
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # musl has none
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
        any(mallopt(_M_MMAP_THRESHOLD, size) for size in _MMAP_THRESHOLDS)


@contextmanager
def explain_shortage(what: str, remedy: str) -> Iterator[None]:
    """Turns running out of memory in the block into a ParamsError.

    what: the parameter that decides how much is needed, with its value; remedy: what to do.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not known and not any(words in str(error) for words in _OUT_OF_MEMORY):
            raise
        raise ParamsError(f"out of memory with {what}; {remedy}.") from error
