"""Model folders: diffusers' DDPMPipeline format with a model card, written whole or not at all.

`DDPMPipeline.from_pretrained(folder)` loads what is written here, without this project.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from pttfaces import files
from pttfaces.diffusion import devices
from pttfaces.diffusion.schedule import NoiseProcess, ddpm_scheduler, process_of
from pttfaces.errors import DataError

_CARD = """---
library_name: diffusers
license: other
license_name: none-given
pipeline_tag: unconditional-image-generation
tags: [ddpm, unconditional-image-generation, faces]
---
# A small generator of face pictures

An unconditional denoising diffusion model (UNet2DModel), {size}×{size} pixels. Load it with
`diffusers.DDPMPipeline.from_pretrained(FOLDER)`.

{facts}

## Use
The model was trained on pictures of people. Its samples show no real person by intent, but a model
trained on few pictures can repeat them: compare samples with the training pictures before showing
any. Do not use it to imitate, identify or judge a person, and do not pass a sample off as a
photograph. It leans to whatever faces its pictures held more of. The rights to the training
pictures stay with those who made them and those whom they show; this model comes with no licence
for uses that they would not allow. A person whose pictures are taken out of the data is taken out
of the model only by training it again.
"""


@dataclass(frozen=True)
class Model:
    """A network in evaluation mode, and the noise process it was trained for."""

    network: UNet2DModel
    process: NoiseProcess


def save(
    folder: Path, network: UNet2DModel, process: NoiseProcess, facts: Mapping[str, Any]
) -> None:
    """Writes `folder` anew: the pipeline and README.md, a card with one line for each fact.

    The same network and facts give the same bytes.
    """
    work = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    pipeline = DDPMPipeline(unet=network, scheduler=ddpm_scheduler(process))
    with files.disk_errors():
        pipeline.save_pretrained(work, safe_serialization=True)
    lines = "\n".join(f"- {key}: {value}" for key, value in facts.items())
    files.write_text(work / "README.md", _CARD.format(size=network.config.sample_size, facts=lines))
    shutil.rmtree(folder, ignore_errors=True)
    work.rename(folder)


def load(folder: Path, device: torch.device | str) -> Model:
    """Reads a model folder; DataError where there is none, or one of another kind."""
    if not (folder / "model_index.json").is_file():
        raise DataError(f"{folder} holds no model; train one with `dvc repro train`.")
    try:
        config = DDPMScheduler.load_config(folder / "scheduler")
        network = UNet2DModel.from_pretrained(folder / "unet", local_files_only=True)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder} is not a whole diffusers model ({error}); delete it and run "
            "`dvc repro train`."
        ) from None
    form = devices.memory_format(device)
    network = network.to(device, memory_format=form).eval().requires_grad_(False)
    return Model(network, process_of(config, str(folder)))
