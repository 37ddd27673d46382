"""State of half-done work: what decides a result, and saving and restoring a training.

A state file appears whole or not at all, so a kill at any moment leaves the one before it.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch

from pttfaces import files
from pttfaces.diffusion import processes


def surroundings() -> dict[str, Any]:
    """What decides a result besides data and settings: this room's code, libraries and machine.

    The number of threads is among it: another one sums in another order and changes last bits.
    """
    return {
        "code": files.code_digest(Path(__file__).parent),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "device": processes.device().type,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }


@dataclass
class Progress:
    """How far a training is. step: weight updates done; loss_sum, norm_sum: of the epoch's steps so
    far; reports: one dictionary for each finished epoch; best_weights: a state_dict, or empty."""

    step: int = 0
    loss_sum: float = 0.0
    norm_sum: float = 0.0
    reports: list[dict[str, Any]] = field(default_factory=list)
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)


def save(path: Path, progress: Progress, parts: Mapping[str, Any]) -> None:
    """Writes the progress and each part's `state_dict()`."""
    whole = {
        "progress": {**vars(progress)},
        "parts": {name: part.state_dict() for name, part in parts.items()},
    }
    with files.atomic(path) as handle:
        torch.save(whole, handle)


def restore(path: Path, parts: Mapping[str, Any]) -> Progress:
    """Loads each part in place and returns the progress; a new one where nothing was saved."""
    if not path.is_file():
        return Progress()
    whole = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(whole["parts"][name])
    return Progress(**whole["progress"])
