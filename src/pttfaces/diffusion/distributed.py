"""Several processes that share one piece of work, as `accelerate launch` or torchrun starts them.

A process that was started alone is the first of one. Knows nothing of what is shared.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env, reduce

from pttfaces import workdir

T = TypeVar("T")


def state() -> PartialState:
    """accelerate's knowledge of the processes; the first call of a process settles it.

    accelerate takes processes on a machine without an accelerator for strangers to each other,
    unless it is told that the CPU is meant.
    """
    asked = parse_flag_from_env("ACCELERATE_USE_CPU")
    return PartialState(cpu=asked or not torch.accelerator.is_available())


def device() -> torch.device:
    """The device that accelerate gives to this process: an accelerator of its own, else the CPU."""
    return state().device


def count() -> int:
    """How many processes share the work."""
    return state().num_processes


def index() -> int:
    """Which of them this one is, from 0."""
    return state().process_index


def is_first() -> bool:
    """Whether this is the process that writes what all have made."""
    return state().is_main_process


def wait() -> None:
    """Returns when every process has come here. Where one dies, its launcher ends the others."""
    state().wait_for_everyone()


def share(work: Sequence[T]) -> list[T]:
    """This process' part of `work`, which is the same list in each: every n-th piece."""
    return list(work[state().process_index :: state().num_processes])


def from_first(value: T) -> T:
    """What the first process passes, in every process. All have to call it."""
    return broadcast_object_list([value])[0]


def mean(value: torch.Tensor) -> torch.Tensor:
    """The mean over all processes, in each; does not wait for the device."""
    return value if count() == 1 else reduce(value, "mean")


def total(value: float) -> float:
    """The sum over all processes, in each."""
    if count() == 1:
        return value
    return float(reduce(torch.tensor(value, dtype=torch.float64, device=device()), "sum"))


@contextmanager
def resuming(name: str, determinants: Any) -> Iterator[Path]:
    """`workdir.resuming` until dvc has noted it, in which all processes are at work: one folder.

    All enter together and leave together; the first holds the lock for all.
    """
    with ExitStack() as stack:
        folder = None
        if is_first():
            folder = str(
                stack.enter_context(workdir.resuming(name, determinants, until_recorded=True))
            )
        yield Path(str(from_first(folder)))
        wait()
