"""Coordinates processes that share one job, as `accelerate launch` or torchrun starts them.

A process that was started alone is the main process.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env, reduce

from pttfaces import workdir

_T = TypeVar("_T")
_DEVICE_VARIABLES = {
    *("ACCELERATE_USE_CPU", "ACCELERATE_TORCH_DEVICE", "ACCELERATE_CPU_AFFINITY"),
    *("ACCELERATE_DEBUG_MODE", "ACCELERATE_DISABLE_RICH"),
}
_UNSET = {"", "0", "1", "no", "false", "none", "default"}  # as `accelerate launch` sets them


@contextmanager
def settings_of_params_alone() -> Iterator[None]:
    """Hides the ACCELERATE_ variables of precision, accumulation, compilation and so on.

    They would change what params.yaml says and metrics record. Names those with an effect on
    stderr. Which devices and processes there are stays accelerate's to decide.
    """
    hidden = {
        name: os.environ.pop(name)
        for name in sorted(os.environ)
        if name.startswith("ACCELERATE_") and name not in _DEVICE_VARIABLES
    }
    changing = [f"{name}={value}" for name, value in hidden.items() if value.lower() not in _UNSET]
    if changing and state().is_main_process:
        print(f"train: params.yaml decides, not {', '.join(changing)}.", file=sys.stderr)
    try:
        yield
    finally:
        os.environ.update(hidden)


def state() -> PartialState:
    """accelerate's state of the processes: `device`, `num_processes`, `is_main_process` and so on.

    Without an accelerator, accelerate connects processes only if it is asked for the CPU.
    """
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=cpu)


def share(items: Sequence[_T]) -> list[_T]:
    """This process's part of `items`, the same list in each process: every n-th item."""
    return list(items[state().process_index :: state().num_processes])


def broadcast(value: _T) -> _T:
    """The main process's value, in every process. All have to call it."""
    return broadcast_object_list([value])[0]


def total(value: float) -> float:
    """The sum over all processes, in each."""
    if state().num_processes == 1:  # also on a device without float64
        return value
    return float(reduce(torch.tensor(value, dtype=torch.float64, device=state().device), "sum"))


@contextmanager
def resuming(stage: str, key: Any) -> Iterator[Path]:
    """`workdir.resuming` of a stage that several processes share: one folder for all.

    All enter together and leave together; the main process holds the lock.
    """
    with ExitStack() as stack:
        folder = None
        if state().is_main_process:
            folder = str(stack.enter_context(workdir.resuming(stage, key, until_recorded=True)))
        yield Path(str(broadcast(folder)))
        state().wait_for_everyone()
