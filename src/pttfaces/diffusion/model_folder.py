"""Reads and writes model folders: diffusers' DDPMPipeline format with a model card.

`DDPMPipeline.from_pretrained(folder)` loads such a folder without this project, and its card has
the lines that sample from it as the stage generate does.
"""

import inspect
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pttfaces import files
from pttfaces.config import Precision
from pttfaces.diffusion import devices
from pttfaces.diffusion.schedule import NoiseSchedule
from pttfaces.errors import DataError

if TYPE_CHECKING:  # diffusers takes seconds, and evaluate only needs the digest
    from diffusers import UNet2DModel

_CARD_NAME = "README.md"
_CARD = Path(__file__).with_name("model_card.md")


@dataclass(frozen=True)
class DiffusionModel:
    """A network in evaluation mode, and the noise schedule it was trained for."""

    unet: "UNet2DModel"
    schedule: NoiseSchedule


def save_model(folder: Path, model: DiffusionModel, facts: Mapping[str, Any]) -> None:
    """Replaces `folder` by the pipeline, the scheduler of the fast sampler, and README.md.

    The card, README.md, has a line for each fact (of these "seed" is the seed of its example) and
    the lines that sample with diffusers alone. The same network and facts give the same bytes.
    """
    from diffusers import DDPMPipeline

    from pttfaces.diffusion import plain_diffusers

    work = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    pipeline = DDPMPipeline(unet=model.unet, scheduler=model.schedule.ddpm_scheduler())
    with files.disk_errors():
        pipeline.save_pretrained(work, safe_serialization=True)
        model.schedule.fast_scheduler().save_pretrained(work / "fast_scheduler")
    card = _CARD.read_text(encoding="utf-8").format(
        size=model.unet.config.sample_size,
        facts="\n".join(f"- {key}: {value}" for key, value in facts.items()),
        sample=inspect.getsource(plain_diffusers.sample),
        seed=facts.get("seed", 0),
    )
    files.write_text(work / _CARD_NAME, card)
    for weights in work.rglob("*.safetensors"):  # which nobody else could read
        shutil.copymode(work / _CARD_NAME, weights)
    shutil.rmtree(folder, ignore_errors=True)
    work.rename(folder)


def load_model(
    folder: Path, device: torch.device | str, precision: Precision = "fp32"
) -> DiffusionModel:
    """Reads a model folder, its weights in a precision that the device supports.

    DataError: it is missing, incomplete, or of another kind.
    """
    if not (folder / "model_index.json").is_file():
        raise DataError(f"{folder} holds no model; train one with `dvc repro train`.")
    from diffusers import DDPMScheduler, UNet2DModel

    try:
        config = DDPMScheduler.load_config(folder / "scheduler")
        dtype = devices.DTYPES[precision]
        unet = UNet2DModel.from_pretrained(
            folder / "unet", local_files_only=True, torch_dtype=dtype
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder} is not a complete diffusers model ({error}); delete it and run "
            "`dvc repro train`."
        ) from None
    memory_format = devices.memory_format(device)
    unet.to(device, memory_format=memory_format)
    unet.eval().requires_grad_(False)
    return DiffusionModel(unet, NoiseSchedule.from_config(config, str(folder)))


def digest(folder: Path) -> str:
    """SHA-256 over names and contents of a model's weights and configs, not of its card."""
    return files.digest_tree(folder, skip=(_CARD_NAME,))
