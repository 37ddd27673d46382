"""The seed preset is the original's recipe, number by number; best keeps its data and its size."""

import pytest
import torch
from diffusers import ConfigMixin, DDPMScheduler, UNet2DModel

from pttfaces import config
from pttfaces.diffusion import unet
from pttfaces.diffusion.schedule import NoiseSchedule

ORIGINAL = {
    "source": "ptt",
    "board.name": "Beauty",
    "board.year": 2024,
    "board.dates": ["0101", "1231"],
    "board.min_nrec": -100,  # a blank popularity counted as 0
    "links.pushes": True,
    "links.albums": "leave",
    "download.concurrency": 20,
    "download.attempts": 3,
    "download.timeout_s": 10,
    "detect.detector": "retinaface",
    "detect.faces": "all",
    "detect.threshold": 0.9,
    "crop.size": 256,
    "crop.face_factor": 0.7,
    "crop.padding": "replicate",
    "blur_threshold": 100,
    "image_size": 64,
    "curate.recrop": True,
    "curate.recrop_threshold": 0.95,
    "curate.recrop_padding": "constant",
    "curate.holdout": 0.0,
    "noise_schedule": "linear",
    "model.channels": [128, 128, 256, 256, 512, 512],
    "model.layers_per_block": 2,
    "model.attention": [False, False, False, False, True, False],
    "model.dropout": 0.0,
    "train.timesteps": 1000,
    "train.epochs": 73,
    "train.batch_size": 16,
    "train.gradient_accumulation": 1,
    "train.learning_rate": 1e-4,
    "train.lr_schedule": "cosine",
    "train.warmup_steps": 500,
    "train.max_grad_norm": 1.0,
    "train.precision": "fp16",
    "train.compile": False,
    "train.prediction": "epsilon",
    "train.zero_terminal_snr": True,
    "train.min_snr_gamma": None,
    "train.ema": None,
    "train.flip": True,
    "train.select_by": "train_loss",
    "train.early_stop": None,
    "train.sample_every": 10,
    "train.sample_images": 16,
    "train.checkpoint_every": 10,
    "train.keep_checkpoints": 8,  # every tenth epoch of 73, and the last
    "generate.num_images": 10_000,
    "generate.batch_size": 32,
    "generate.sampler": "ddpm",
    "generate.timestep_spacing": "leading",
    "generate.precision": "fp16",
    "infer_steps": 300,
    "evaluate.features": "inception",
    "evaluate.dims": 2048,
}


@pytest.mark.parametrize("key", ORIGINAL)
def test_seed_preset_has_the_original_s_value_of_each_key(key: str) -> None:
    assert config.load("presets/seed.yaml").flat()[key] == ORIGINAL[key]


def test_seed_preset_has_no_model_or_training_key_left_unchecked() -> None:
    keys = {key for key in config.load("presets/seed.yaml").flat() if key[:5] in ("model", "train")}
    kept = {"train.save_every_minutes", "train.resume", "train.register"}
    assert keys - set(ORIGINAL) == kept


def values_of(configured: ConfigMixin) -> dict[str, object]:
    """A diffusers object's options; those with a leading underscore say how they were given."""
    return {key: value for key, value in configured.config.items() if key[0] != "_"}


def test_seed_preset_gives_the_tutorial_s_network_and_schedule() -> None:
    values = config.load("presets/seed.yaml")
    blocks = ["DownBlock2D"] * 4 + ["AttnDownBlock2D", "DownBlock2D"]
    with torch.device("meta"):  # shapes alone
        ours = unet.build(values.model, 64, seed=0)
        tutorial = UNet2DModel(
            sample_size=64,
            in_channels=3,
            out_channels=3,
            layers_per_block=2,
            block_out_channels=(128, 128, 256, 256, 512, 512),
            down_block_types=tuple(blocks),
            up_block_types=tuple(name.replace("Down", "Up") for name in blocks[::-1]),
        )
    assert ours.num_parameters() == tutorial.num_parameters() == 113_673_219
    assert values_of(ours) == values_of(tutorial)
    schedule = NoiseSchedule.from_params(values)
    default = DDPMScheduler(
        num_train_timesteps=1000, rescale_betas_zero_snr=True, timestep_spacing="linspace"
    )
    assert torch.allclose(schedule.alpha_bar().float(), default.alphas_cumprod)
    saved, expected = values_of(schedule.ddpm_scheduler()), values_of(default)
    differing = {key for key in expected if saved[key] != expected[key]}
    assert differing == {"trained_betas", "rescale_betas_zero_snr"}


def test_best_preset_trains_the_seed_s_network_on_the_same_images() -> None:
    seed, best = (config.load(f"presets/{name}.yaml").flat() for name in ("seed", "best"))
    same = ["source", "image_size", "blur_threshold", "model.channels", "model.layers_per_block"]
    same += [key for key in seed if key.startswith(("board.", "detect.")) and key != "detect.turns"]
    assert {key: best[key] for key in same} == {key: seed[key] for key in same}
