"""A model that was trained on 20 images until it knows them by heart is caught by the check for
copies; one that saw fifty times as many for as long is not."""

from pathlib import Path

import numpy as np
import pytest
import settings
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from pttfaces.diffusion.schedule import NoiseSchedule
from pttfaces.evaluation import features, image_folder, memorization, metrics
from pttfaces.evaluation.image_folder import ImageFolder
from pttfaces.sampling import samplers

SCHEDULE = NoiseSchedule("cosine", 1000, "v_prediction", False)
SIDE, WIDTH, STEPS, BATCH, SAMPLES = 8, 384, 600, 64, 60


def discs(count: int, seed: int) -> np.ndarray:
    """(N, 8, 8, 3) uint8: a bright disc on a plain ground, somewhere."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for image in images:
        ground, disc = rng.integers(0, 120, 3), rng.integers(130, 256, 3)
        cx, cy = rng.uniform(2, 6, 2)
        image[:] = np.where(((x - cx) ** 2 + (y - cy) ** 2 < 4)[..., None], disc, ground)
    return images


class Denoiser(nn.Module):
    """(noisy (B, 3, 8, 8), α and σ (B, 1, 1, 1)) → image; learns in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(3 * SIDE**2 + 2, WIDTH)
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, 3 * SIDE**2)

    def forward(self, x: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        h = torch.relu(
            self.into(torch.cat([x.flatten(1), alpha[:, :, 0, 0], sigma[:, :, 0, 0]], 1))
        )
        h = h + torch.relu(self.first(h))
        h = h + torch.relu(self.second(h))
        return self.out(h).view_as(x)


def samples_of_a_model_trained_on(pixels: np.ndarray) -> np.ndarray:
    """(60, 8, 8, 3) uint8, after the same number of steps however many the images are."""
    signal = SCHEDULE.alpha_bar().float()[:, None, None, None]
    alpha, sigma = signal.sqrt(), (1 - signal).sqrt()
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Denoiser()
        optimizer = torch.optim.AdamW(network.parameters())
        rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS)
        for _ in range(STEPS):
            x, t = images[torch.randint(len(images), (BATCH,))], torch.randint(1000, (BATCH,))
            noisy = alpha[t] * x + sigma[t] * torch.randn(x.shape)
            loss = functional.mse_loss(network(noisy, alpha[t], sigma[t]), x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        t = t.round().long()  # a sampler's levels may lie between two timesteps
        return (alpha[t] * x - network(x, alpha[t], sigma[t])) / sigma[t]

    sources = [torch.Generator().manual_seed(index) for index in range(SAMPLES)]
    start = torch.stack([torch.randn(3, SIDE, SIDE, generator=source) for source in sources])
    options = settings.group("generate", sampler="dpmsolver++", timestep_spacing="trailing")
    made = samplers.denoise_all(velocity, SCHEDULE, options, 20, start, sources)
    levels = made.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).numpy()


def folder_of(path: Path, images: np.ndarray) -> ImageFolder:
    path.mkdir()
    for index, pixels in enumerate(images):
        Image.fromarray(pixels).save(path / f"{index:04}.png")
    return image_folder.open_folder(path, "")


@pytest.mark.parametrize(("count", "copies"), [(20, True), (1000, False)])
def test_compute_of_an_overfitted_model_finds_copies_and_of_another_none(
    count: int, copies: bool, tmp_path: Path
) -> None:
    images = discs(count, 0)
    trained = folder_of(tmp_path / "trained", images)
    samples = folder_of(tmp_path / "samples", samples_of_a_model_trained_on(images))
    sets = metrics.ImageSets(samples, trained, trained, folder_of(tmp_path / "held", discs(60, 1)))
    options = settings.group("evaluate", batch_size=32, max_copied=0.2)
    extractor = features.make_extractor(options, tmp_path / "cache")
    found = metrics.compute(sets, extractor, lambda image: [], options).figures["copies"]
    assert found["too_many"] == copies, found
    assert (memorization.copy_warning(found) is not None) == copies
    assert (found["copied"] > 0.5) == copies
