"""Stage generate: samples pictures from the best model; data/generated/, its zip and a grid."""

import shutil
import sys
from pathlib import Path

from pttfaces.stage import run_stage_on_processes
from pttfaces import archive, config, files, images

MODEL, OUT, ARCHIVE = "models/ddpm/best_model", Path("data/generated"), "data/generated.zip"
SHOWN = 64


def main() -> None:
    everything = config.load()
    options = everything.generate
    from pttfaces.diffusion import distributed, model_folder
    from pttfaces.sampling import generation, samplers

    model = model_folder.load(Path(MODEL), distributed.device())
    order = generation.order_of(everything)
    sampler = order.sampler
    warning = samplers.start_warning(model.process, sampler)
    if warning and distributed.is_first():
        print(f"warning: {warning}", file=sys.stderr)
    digest = files.digest_tree(MODEL)
    with distributed.resuming("generate", generation.determinants(order, digest)) as work:
        made = generation.generate(model, order, work)
        if not distributed.is_first():  # which writes what all have made
            return
        files.clean_folder(OUT)
        for path in made.paths:
            shutil.copyfile(path, OUT / path.name)
    archive.pack(OUT, ARCHIVE)
    shown = images.read_rgb(sorted(OUT.glob("*.png"))[:SHOWN])
    scale = 2 if shown.shape[1] <= 64 else 1
    images.save_png("metrics/pictures/samples.png", images.grid(shown, scale=scale))
    figures = {
        "num_images": options.num_images,
        "sampler": sampler.name,
        "infer_steps": sampler.steps,
        "timestep_spacing": sampler.visits,
        "first_timestep_snr": float(f"{samplers.first_snr(model.process, sampler):.3g}"),
        "images_per_s": round(made.images_per_s, 2) or None,  # none where all were there already
        "device": distributed.device().type,
        "processes": distributed.count(),
        "precision": "fp32",
        "seed": everything.seed,
        "model_digest": digest,
    }
    files.write_metrics("generate", figures)
    rate = f"{made.images_per_s:.1f} a second" if made.images_per_s else "made before a kill"
    print(
        f"generate: {options.num_images} pictures by {sampler.name} in {sampler.steps} steps, "
        f"{rate} on {figures['device']}"
    )


if __name__ == "__main__":
    run_stage_on_processes(main)
