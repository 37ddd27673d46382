"""Stage generate: samples images from the best model; writes data/generated/, a zip and a grid."""

import shutil
import sys
from pathlib import Path

from pttfaces.stage import run_stage_on_processes
from pttfaces import archive, config, files, images

MODEL, OUT, ARCHIVE = Path("models/ddpm/best_model"), Path("data/generated"), "data/generated.zip"
GRID_IMAGES = 64


def main() -> None:
    params = config.load()
    options, steps, seed = params.generate, params.infer_steps, params.seed
    from pttfaces.diffusion import devices, distributed, model_folder
    from pttfaces.sampling import forecast, generation, samplers

    precision = devices.prepare_precision(options.precision, "generate")
    model = model_folder.load_model(MODEL, distributed.state().device, precision)
    first = samplers.noise_levels(model.schedule, options, steps)[0]
    if distributed.state().is_main_process:
        for warning in forecast.warnings(model.schedule, options, steps):
            print(f"warning: {warning}", file=sys.stderr)
    digest = model_folder.digest(MODEL)
    key = generation.resume_key(options, steps, seed, digest)
    with distributed.resuming("generate", key) as work:
        generated = generation.generate(model, options, steps, seed, work)
        if not distributed.state().is_main_process:  # only the main process writes the outs
            return
        files.clean_folder(OUT)
        for path in generated.paths:
            shutil.copyfile(path, OUT / path.name)
    archive.pack(OUT, ARCHIVE)
    shown = images.read_rgb(sorted(OUT.glob("*.png"))[:GRID_IMAGES])
    scale = 2 if shown.shape[1] <= 64 else 1
    images.save_png("metrics/pictures/samples.png", images.grid(shown, scale=scale))
    metrics = {
        "num_images": options.num_images,
        "sampler": options.sampler,
        "infer_steps": steps,
        "timestep_spacing": samplers.effective_spacing(options),
        "first_timestep_snr": float(f"{first.snr:.3g}"),
        "images_per_s": round(generated.images_per_s, 2) or None,  # null: all images were there
        "device": distributed.state().device.type,
        "processes": distributed.state().num_processes,
        "precision": precision,
        "seed": seed,
        "model_digest": digest,
    }
    files.write_metrics("generate", metrics)
    speed = (
        f"{generated.images_per_s:.1f} a second" if generated.images_per_s else "sampled earlier"
    )
    print(
        f"generate: {options.num_images} images by {options.sampler} in {steps} steps, {speed} on "
        f"{metrics['device']}"
    )


if __name__ == "__main__":
    run_stage_on_processes(main)
