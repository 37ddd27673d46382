"""Our generate against diffusers' DDPMPipeline at 300 steps, with the same network, in one run.

    PYTHONPATH=src python benchmarks/generate.py
    PYTHONPATH=src python benchmarks/generate.py --model models/ddpm/best_model \\
        --real data/dataset/train

The first measures speed, with the network of params.yaml; the second also distances, over three
seeds, of a trained network.

Bounds: dpmsolver++ at 20 steps makes at least 12 times the images a second; at equal steps we are
no slower than the pipeline; at least 95 % of our time passes inside the network; the distance is no
worse than at 300 leading steps within the spread of three seeds. The pipeline returns its images in
memory; ours also writes them as PNG files. The pipeline runs in processes of its own, since ours
changes how its process allocates memory.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMPipeline, DDPMScheduler

from pttfaces import config
from pttfaces.diffusion import devices, distributed, model_folder, unet
from pttfaces.diffusion.model_folder import DiffusionModel
from pttfaces.diffusion.schedule import NoiseSchedule
from pttfaces.evaluation import features, fid, image_folder
from pttfaces.sampling import generation

STEPS, FEW = 300, 20
DPM_SOLVER, DDPM = ("dpmsolver++", "trailing", FEW), ("ddpm", "leading", STEPS)


def demo_model() -> DiffusionModel:
    """The network of params.yaml, untrained: as fast as a trained one."""
    params, device = config.load(), distributed.state().device
    network = unet.build(params.model, params.image_size, seed=0)
    network = network.to(device, memory_format=devices.memory_format(device))
    schedule = NoiseSchedule("cosine", 1000, "v_prediction", False)
    return DiffusionModel(network.eval().requires_grad_(False), schedule)


def synchronize() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def seconds(work: Callable[[], Any]) -> float:
    synchronize()
    started = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - started


@contextmanager
def timed_network(model: DiffusionModel) -> Any:
    """A list that holds the seconds of each call of the network in the block."""
    inside: list[float] = []
    forward = model.unet.forward

    def timed(*values: Any, **keywords: Any) -> Any:
        results: list[Any] = []
        inside.append(seconds(lambda: results.append(forward(*values, **keywords))))
        return results[0]

    model.unet.forward = timed
    try:
        yield inside
    finally:
        model.unet.forward = forward


def generate(
    model: DiffusionModel,
    sampler: tuple[Any, Any, int],
    count: int,
    batch: int,
    folder: Path,
    seed: int = 0,
) -> None:
    """Our generate; sampler: its name, its spacing and the number of steps."""
    name, spacing, steps = sampler
    options = config.Generate(
        num_images=count,
        batch_size=batch,
        sampler=name,
        timestep_spacing=spacing,
        precision="fp32",
    )
    generation.generate(model, options, steps, seed, folder)


def generate_seconds(
    model: DiffusionModel, sampler: tuple[Any, Any, int], count: int, batch: int
) -> float:
    """Seconds that our generate takes for `count` images, writing included."""
    with tempfile.TemporaryDirectory() as folder:
        return seconds(lambda: generate(model, sampler, count, batch, Path(folder)))


def pipeline_in_a_process() -> float:
    """Seconds that DDPMPipeline takes in a process of its own, with this one's arguments."""
    command = [sys.executable, __file__, *sys.argv[1:], "--pipeline"]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.split()[-1])


def pipeline_child(model: DiffusionModel, count: int, batch: int) -> float:
    """Seconds of DDPMPipeline as the original calls it: 300 steps, default spacing."""
    saved = model.schedule.ddpm_scheduler().config
    scheduler = DDPMScheduler.from_config(saved, timestep_spacing="leading")
    pipeline = DDPMPipeline(unet=model.unet, scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    source = torch.Generator("cpu").manual_seed(0)

    def run() -> None:
        for start in range(0, count, batch):
            size = min(batch, count - start)
            pipeline(batch_size=size, generator=source, num_inference_steps=STEPS)

    pipeline(batch_size=batch, generator=source, num_inference_steps=2)  # warm up
    return seconds(run)


def speed(model: DiffusionModel, options: argparse.Namespace) -> None:
    count, batch = options.count, options.batch_size
    generate_seconds(model, ("dpmsolver++", "trailing", 2), batch, batch)  # warm up
    pipelines, equal, fast, shares = [], [], [], []
    for _ in range(options.rounds):
        pipelines.append(pipeline_in_a_process() / count)
        equal.append(generate_seconds(model, DDPM, count, batch) / count)
        fast.append(generate_seconds(model, DPM_SOLVER, count, batch) / count)
        with timed_network(model) as inside:
            whole = generate_seconds(model, DPM_SOLVER, 2 * count, batch)
        shares.append(sum(inside) / whole)
    pipeline, same, few = map(statistics.median, (pipelines, equal, fast))
    print(f"DDPMPipeline, {STEPS} steps        {1 / pipeline:8.2f} images/s")
    print(f"ours, ddpm, {STEPS} leading steps  {1 / same:8.2f} images/s")
    print(f"ours, dpmsolver++, {FEW} steps      {1 / few:8.2f} images/s")
    print(f"dpmsolver++ over the pipeline: {pipeline / few:.1f} times (bound: at least 12)")
    print(f"ours at equal steps: {pipeline / same:.3f} times the pipeline's rate (bound: 1)")
    print(f"inside the network: {statistics.median(shares):.1%} of the time (bound: 95 %)")


def distances(
    model: DiffusionModel, sampler: tuple[Any, Any, int], real: Path, count: int, batch: int
) -> list[float]:
    """The distance to the real images for three sampling seeds."""
    with tempfile.TemporaryDirectory() as scratch:
        extractor = features.make_extractor(
            config.load("presets/demo.yaml").evaluate.model_copy(update={"batch_size": batch}),
            Path(scratch) / "cache",
        )
        truth = extractor.embed(image_folder.open_folder(real, "name a folder of images"))
        found = []
        for seed in range(3):
            made = Path(scratch) / str(seed)
            generate(model, sampler, count, batch, made, seed)
            rows = extractor.embed(image_folder.open_folder(made, "run again"))
            found.append(fid.frechet_distance(rows.statistics, truth.statistics))
        return found


def quality(model: DiffusionModel, real: Path, count: int, batch: int) -> None:
    few, many = (distances(model, sampler, real, count, batch) for sampler in (DPM_SOLVER, DDPM))
    for name, found in ((f"dpmsolver++ {FEW}", few), (f"ddpm {STEPS} leading", many)):
        print(
            f"random_feature_distance, {name}: {', '.join(f'{distance:.4g}' for distance in found)}"
        )
    spread = max(many) - min(many)
    worse = statistics.mean(few) - statistics.mean(many)
    print(f"dpmsolver++ is worse by {worse:.4g} (bound: the spread of three seeds, {spread:.4g})")


def main() -> None:
    parser = argparse.ArgumentParser(description="generate against DDPMPipeline")
    parser.add_argument("--model", type=Path, help="a trained model's folder")
    parser.add_argument("--real", type=Path, help="training images to measure distances to")
    parser.add_argument("--count", type=int, default=16, help="images of each timing")
    parser.add_argument("--samples", type=int, default=128, help="images of each distance")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2, help="times that each is measured")
    parser.add_argument("--pipeline", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    model = (
        model_folder.load_model(options.model, distributed.state().device)
        if options.model
        else demo_model()
    )
    if options.pipeline:
        print(pipeline_child(model, options.count, options.batch_size))
        return
    speed(model, options)
    if options.model and options.real:
        quality(model, options.real, options.samples, options.batch_size)
    else:
        print("distances: not measured; name --model and --real")


if __name__ == "__main__":
    main()
