"""A lack of memory, told in a sentence.

Knows how torch says so on each device; not who ran short.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pttfaces.errors import ParamsError

# On a CPU and on Apple's GPUs torch raises a bare RuntimeError, known by its text alone.
_WORDS = ("allocate memory", "out of memory")


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
