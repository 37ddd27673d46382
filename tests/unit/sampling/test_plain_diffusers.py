"""The lines of the model card: the images of our samplers, whatever the schedule."""

from pathlib import Path

import numpy as np
import pytest
import settings
import tiny_training as tiny

from pttfaces.diffusion import model_folder, plain_diffusers
from pttfaces.diffusion.model_folder import DiffusionModel
from pttfaces.diffusion.schedule import NoiseSchedule
from pttfaces.sampling import samplers

SCHEDULES = {
    "seed": NoiseSchedule("linear", 1000, "epsilon", True),
    "cosine epsilon": NoiseSchedule("cosine", 1000, "epsilon", False),
    "linear": NoiseSchedule("linear", 1000, "v_prediction", False),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_plain_sample_gives_the_images_of_our_samplers(
    schedule: NoiseSchedule, tmp_path: Path
) -> None:
    """Also where the first timesteps are left out, since ε says nothing there."""
    model = DiffusionModel(tiny.build(3).eval(), schedule)
    folder = tmp_path / "model"
    model_folder.save_model(folder, model, {})
    for sampler in ("ddpm", "ddim", "dpmsolver++"):
        options = settings.group(
            "generate", sampler=sampler, timestep_spacing="trailing", precision="fp32"
        )
        ours = samplers.sample(model, options, 13, 5, range(2))
        arguments = (str(folder), model.unet, sampler, "trailing", 13, 5, range(2))
        plain = plain_diffusers.sample(*arguments)
        assert np.abs(ours.astype(int) - plain).max() <= 1


def test_plain_sample_of_an_unknown_sampler_or_spacing_raises_key_error(tmp_path: Path) -> None:
    model_folder.save_model(tmp_path / "model", tiny.model(), {})
    for sampler, spacing in (("dpm", "trailing"), ("ddim", "even")):
        with pytest.raises(KeyError, match=f"{sampler}|{spacing}"):
            plain_diffusers.sample(
                str(tmp_path / "model"), tiny.build(), sampler, spacing, 2, 0, range(1)
            )
