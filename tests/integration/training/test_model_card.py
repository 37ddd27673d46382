"""A model folder without this project: its card's lines, run in a process that lacks pttfaces."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import settings
import tiny_training as tiny
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler
from PIL import Image

from pttfaces import images
from pttfaces.diffusion import model_folder
from pttfaces.evaluation import features, metrics
from pttfaces.evaluation.image_folder import open_folder
from pttfaces.sampling import samplers
from pttfaces.training import loop

COUNT = 32
SEED = 4  # of the card's own example: the training's
LIKE_GENERATE = [
    ("dpmsolver++", "trailing", 20),
    ("ddpm", "trailing", 61),
    ("ddim", "leading", 103),
]
PLAIN = textwrap.dedent("""
    import re, sys
    from pathlib import Path
    import torch

    sys.modules["pttfaces"] = None  # an import of it fails, however it is installed
    count, target, *ways = sys.argv[1:]
    card = Path("README.md").read_text(encoding="utf-8")
    pipeline_lines, sample_lines = re.findall("```python\\n(.*?)```", card, re.S)

    def save(images, name):
        Path(target, name).mkdir()
        for index, image in enumerate(images):
            image.save(Path(target, name, f"{index:06d}.png"))

    torch.manual_seed(0)
    pipeline_lines = pipeline_lines.replace("batch_size=4", f"batch_size={count}")
    exec(pipeline_lines.partition("fast =")[0].replace("=100)", "=61)"))
    save(images, "pipeline-61")
    exec(pipeline_lines.replace("=100)", "=2)"))
    save(images, "pipeline-fast")
    for way in ways:
        sampler, spacing, steps = way.split(",")
        wanted = f"{sampler!r}, {spacing!r}, {steps}"
        lines = sample_lines.replace('"dpmsolver++", "trailing", 20', wanted)
        Path(target, way).mkdir()
        exec(lines.replace(", 16\\n", f", {count}\\n").replace('f"{', f'f"{target}/{way}/{{'))
""")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images in train/ and the best of three epochs in work/best_model/."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "work").mkdir()
    sets = tiny.draw_sets(folder, 64)
    params = tiny.params(seed=SEED, epochs=6, sample_every=99, keep_checkpoints=0)
    loop.train(params, *sets, folder / "work", lambda *_: None)
    return folder


@pytest.fixture(scope="module")
def plain(trained: Path) -> Path:
    """What the card's lines sample, each way in a folder of its own."""
    target = trained / "plain"
    target.mkdir()
    ways = [f"{sampler},{spacing},{steps}" for sampler, spacing, steps in LIKE_GENERATE]
    environment = {key: os.environ[key] for key in os.environ if key != "PYTHONPATH"}
    command = [sys.executable, "-c", PLAIN, str(COUNT), str(target), *ways]
    folder = trained / "work/best_model"
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return target


def ours(trained: Path, sampler: str, spacing: str, steps: int, seed: int) -> np.ndarray:
    model = model_folder.load_model(trained / "work/best_model", "cpu")
    options = settings.group("generate", sampler=sampler, timestep_spacing=spacing)
    return samplers.sample(model, options, steps, seed, range(COUNT))


@pytest.mark.parametrize(("sampler", "spacing", "steps"), LIKE_GENERATE)
def test_card_samples_the_images_of_generate(
    trained: Path, plain: Path, sampler: str, spacing: str, steps: int
) -> None:
    made = images.read_rgb(sorted((plain / f"{sampler},{spacing},{steps}").glob("*.png")))
    expected = ours(trained, sampler, spacing, steps, SEED)
    assert np.abs(made.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("way", "sampler", "steps"),
    [
        ("pipeline-61", "ddpm", 61),
        ("pipeline-fast", "dpmsolver++", 20),
    ],
)
def test_card_pipeline_scores_within_the_spread_of_our_seeds(
    trained: Path, plain: Path, tmp_path: Path, way: str, sampler: str, steps: int
) -> None:
    extractor = features.make_extractor(settings.demo().evaluate, tmp_path)
    real = open_folder(trained / "train", "")
    distances = []
    for seed in range(3):
        (tmp_path / str(seed)).mkdir()
        for index, pixels in enumerate(ours(trained, sampler, "trailing", steps, seed)):
            Image.fromarray(pixels).save(tmp_path / str(seed) / f"{index:06d}.png")
        distances.append(metrics.distance(extractor, open_folder(tmp_path / str(seed), ""), real))
    found = metrics.distance(extractor, open_folder(plain / way, ""), real)
    spread = max(distances) - min(distances)
    assert min(distances) - 2 * spread <= found <= max(distances) + 2 * spread


def test_saved_schedulers_are_right_at_every_number_of_steps() -> None:
    """diffusers' trailing spacing visits timestep −1 for 62 of these."""
    ddpm, fast = tiny.COSINE.ddpm_scheduler(), tiny.COSINE.fast_scheduler()
    assert isinstance(ddpm, DDPMScheduler)
    assert isinstance(fast, DPMSolverMultistepScheduler)
    for scheduler, numbers in ((ddpm, range(2, 1001)), (fast, (1, 2, 20, 61, 103, 1000))):
        for steps in numbers:
            scheduler.set_timesteps(steps)
            visited = scheduler.timesteps
            assert len(visited) == steps
            assert int(visited[0]) == 999
            assert int(visited[-1]) == (0 if steps > 1 else 999)
            assert bool((visited.diff() <= (0 if scheduler is fast else -1)).all())
