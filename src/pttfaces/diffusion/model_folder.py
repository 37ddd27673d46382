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
_CARD = """---
library_name: diffusers
license: other
license_name: none-given
pipeline_tag: unconditional-image-generation
tags: [ddpm, unconditional-image-generation, faces]
---
# Unconditional face generator

An unconditional denoising diffusion model (UNet2DModel), {size}×{size} pixels.

{facts}

## Sampling
In this folder, with diffusers alone:

```python
from diffusers import DDPMPipeline, DPMSolverMultistepScheduler

pipeline = DDPMPipeline.from_pretrained(".")
images = pipeline(batch_size=4, num_inference_steps=100).images  # DDPM: any number from 2 on

fast = DPMSolverMultistepScheduler.from_pretrained(".", subfolder="fast_scheduler")
pipeline.scheduler = fast
images = pipeline(batch_size=4, num_inference_steps=20).images
```

For the images that the project's stage generate makes of a seed, 000000.png first, set `sampler`,
`spacing`, `steps` and `seed` to `sampler`, `timestep_spacing`, `infer_steps` and `seed` of its
`metrics/generate.json`; every score in MLflow has them, too:

```python
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
from PIL import Image


{sample}

folder, sampler, spacing, steps, seed, count = ".", "dpmsolver++", "trailing", 20, {seed}, 16
unet = UNet2DModel.from_pretrained(folder, subfolder="unet").eval()
for index, pixels in enumerate(sample(folder, unet, sampler, spacing, steps, seed, range(count))):
    Image.fromarray(pixels).save(f"{{index:06d}}.png")
```

They are the same up to rounding if `generate.precision` was fp32 (nearly, for `dpmsolver++` with
zero terminal SNR).

## Use
The model was trained on images of people. Its samples are not meant to show any real person, but a
model trained on few images can reproduce them: compare samples with the training images before
showing any. Do not use it to imitate, identify or judge a person, and do not present a sample as a
photograph. It reproduces the biases of its training images. The rights to the training images stay
with those who made them and those whom they show; this model comes with no license for uses that
they would not allow. To remove a person from the model, remove their images from the data and train
it again.
"""
_CARD_TITLE_0_1 = "# A small generator of face pictures"


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
    card = _CARD.format(
        size=model.unet.config.sample_size,
        facts="\n".join(f"- {key}: {value}" for key, value in facts.items()),
        sample=inspect.getsource(plain_diffusers.sample),
        seed=facts.get("seed", 0),
    )
    files.write_text(work / _CARD_NAME, card)
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
    card = folder / _CARD_NAME
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines() if card.exists() else []
    # Version 0.1 counted the card, too: so MLflow's runs of its models keep their model_digest.
    return files.digest_tree(folder, skip=() if _CARD_TITLE_0_1 in lines else (_CARD_NAME,))
