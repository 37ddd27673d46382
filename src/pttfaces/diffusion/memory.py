"""The memory of a process that runs networks: what is freed is kept, a lack is told in a sentence.

Knows glibc's allocator, and how torch says on each device that there is no more; not who ran short.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pttfaces.errors import ParamsError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_NEVER = -1
# Bytes from which a piece is a mapping of its own. Older glibc take 32 MiB at most.
_LARGEST = (2**30, 2**25)

# On a CPU and on Apple's GPUs torch raises a bare RuntimeError, known by its text alone.
_WORDS = ("allocate memory", "out of memory")


def keep_freed() -> None:
    """Lets this process keep the memory that it frees, for what it asks for next.

    glibc gives large pieces back to the kernel, which clears each page anew. A network on a CPU
    asks for the same large pieces in every layer of every step, and may spend more on pages than on
    arithmetic. The peak grows by the gaps between pieces in one heap, by a third at most as far as
    was seen. Meant for the main thread: others' heaps end at 64 MiB, and larger pieces go back.
    Other C libraries are left as they are.

    Source: mallopt(3).
    """
    if sys.platform != "linux":
        return
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # musl has none
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
        any(mallopt(_M_MMAP_THRESHOLD, size) for size in _LARGEST)


@contextmanager
def enough_for(what: str, cure: str) -> Iterator[None]:
    """Turns a lack of memory in the block into a ParamsError.

    what: the parameter that decides how much is needed, with its value; cure: what to do.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not known and not any(words in str(error) for words in _WORDS):
            raise
        raise ParamsError(
            f"memory does not suffice for {what} with this network; {cure}."
        ) from error
