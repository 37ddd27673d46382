"""Stage train: trains a diffusion model on data/dataset; writes models, curves and sample grids."""

import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from pttfaces.stage import run_stage_on_processes
from pttfaces import config, files, tables
from pttfaces.errors import DataError

DATASET, BEST = Path("data/dataset"), Path("models/ddpm/best_model")
OUTS = {  # what a training leaves → the stage's outs
    "best_model": BEST,
    "last": Path("models/ddpm/last"),
    "checkpoints": Path("models/checkpoints"),
    "grids": Path("metrics/pictures/train"),
}


def main() -> None:
    params = config.load()
    if not any((DATASET / "train").glob("*.png")):
        raise DataError(
            f"{DATASET / 'train'} holds no image to train on; run `dvc repro`, or unpack a zip of "
            f"the data set with `pttfaces pack --unpack crops.zip {DATASET}`."
        )
    from pttfaces import manifest, provenance, tracking
    from pttfaces.diffusion import distributed, model_folder
    from pttfaces.diffusion.schedule import NoiseSchedule
    from pttfaces.sampling import forecast
    from pttfaces.training import checkpoint, data, loop

    if distributed.state().is_main_process:
        manifest.check_manifest(DATASET)
        schedule = NoiseSchedule.from_params(params)
        sampling = forecast.warnings(schedule, params.generate, params.infer_steps)
        for warning in (*params.warnings(), *sampling):  # before hours are spent
            print(f"warning: {warning}", file=sys.stderr)
    train_set = data.load_images(DATASET / "train", params.image_size)
    holdout = data.load_images(DATASET / "holdout", params.image_size)
    loop.steps_per_epoch(params.train, train_set, holdout)  # raises before a run begins
    key = checkpoint.resume_key(params, train_set, holdout)
    with distributed.resuming("train", key) as work:
        if not distributed.state().is_main_process:  # only the main process writes and logs
            loop.train(params, train_set, holdout, work, lambda *_: None)
            return
        if reason := checkpoint.explain_restart(work, key):
            print(f"train: {reason}", file=sys.stderr)
        with tracking.training_run(params, train_set.digest, work / "mlflow_run") as run:
            run.log_provenance(provenance.collect())
            images = len(train_set)
            run.log_dataset(DATASET.as_posix(), train_set.digest, "training", images)
            # Erasure finds the models trained on an image by this list, even without the data set.
            names = sorted(path.name for path in (DATASET / "train").glob("*.png"))
            run.log_text("\n".join(names), tracking.TRAINING_IMAGES)

            def on_epoch(row: tables.Epoch, is_best: bool, grid: Path | None) -> None:
                figures = {**asdict(row), "best_epoch": row.epoch if is_best else None}
                del figures["epoch"]  # the step
                run.log_metrics(figures, row.epoch)
                if grid:
                    run.log_file(grid, "samples")

            result = loop.train(params, train_set, holdout, work, on_epoch)
            for name, out in OUTS.items():
                shutil.rmtree(out, ignore_errors=True)
                shutil.copytree(work / name, out)
            tables.write("metrics/plots/epochs.csv", result.epochs, tables.Epoch)
            metrics = {**result.metrics, "model_digest": model_folder.digest(BEST)}
            files.write_metrics("train", metrics)
            run.log_tags({"precision_used": metrics["precision"]})
            if result.changes:
                run.log_tags({"resumed": "; ".join(result.changes)})
            run.log_model(BEST, metrics["model_digest"], register=params.train.register_model)
            run.log_metrics({f"best_{loss}": metrics[loss] for loss in ("train_loss", "val_loss")})
    val = "" if metrics["val_loss"] is None else f", validation loss {metrics['val_loss']:.4f}"
    print(
        f"train: {metrics['parameters'] / 1e6:.1f} million weights, {metrics['epochs']} epochs; "
        f"best is epoch {metrics['best_epoch']} (training loss {metrics['train_loss']:.4f}{val})"
    )


if __name__ == "__main__":
    run_stage_on_processes(main)
