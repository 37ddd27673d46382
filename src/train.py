"""Stage train: learns a diffusion model from data/dataset; models/, curves and sample grids."""

import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from pttfaces.stage import run_stage_on_processes
from pttfaces import config, files, tables
from pttfaces.errors import DataError

DATASET, MODELS, GRIDS = Path("data/dataset"), Path("models"), Path("metrics/pictures/train")
CURVES = ("epoch", "train_loss", "val_loss", "learning_rate", "grad_norm", "images_per_s")


def main() -> None:
    everything = config.load()
    options = everything.train
    if not any((DATASET / "train").glob("*.png")):
        raise DataError(
            f"{DATASET / 'train'} holds no picture to train on; run `dvc repro`, or unpack a zip "
            "of crops there with `python src/pack.py`."
        )
    from pttfaces import manifest, tracking
    from pttfaces.diffusion import distributed
    from pttfaces.diffusion.schedule import NoiseProcess
    from pttfaces.diffusion.unet import Architecture
    from pttfaces.training import checkpoint, data, loop

    if distributed.is_first():
        manifest.check(DATASET)
    noise = {"timesteps", "prediction", "zero_terminal_snr"}
    task = loop.Task(
        Architecture(everything.image_size, **everything.model.model_dump()),
        NoiseProcess(everything.noise_schedule, **options.model_dump(include=noise)),
        loop.Recipe(everything.seed, **options.model_dump(exclude={*noise, "register_model"})),
        data.load(DATASET / "train", everything.image_size),
        data.load(DATASET / "holdout", everything.image_size),
    )
    loop.updates_an_epoch(task)  # too few pictures: told before a run begins
    determinants = loop.determinants(task)
    with distributed.resuming("train", determinants) as work:
        if not distributed.is_first():  # which writes and logs for all
            loop.train(task, work, lambda report: None)
            return
        if reason := checkpoint.why_anew(work, determinants):
            print(f"train: {reason}", file=sys.stderr)
        with tracking.training_run(everything, task.train_set.digest, work / "mlflow_run") as run:
            # So that forgetting finds the models that saw a picture, whatever DVC still keeps.
            names = sorted(path.name for path in (DATASET / "train").glob("*.png"))
            run.log_text("\n".join(names), tracking.TRAINING_PICTURES)

            def on_epoch(report: loop.EpochReport) -> None:
                figures = {key: getattr(report, key) for key in CURVES[1:]}
                figures["best_epoch"] = report.epoch if report.is_best else None
                run.log_metrics(figures, report.epoch)
                if report.grid:
                    run.log_picture(report.grid, f"samples/{report.grid.name}")

            trained = loop.train(task, work, on_epoch)
            best = {key: getattr(trained.best, key) for key in ("train_loss", "val_loss")}
            run.log_metrics({f"best_{key}": value for key, value in best.items()})
            run.log_tags({"device": trained.device, "precision_used": trained.precision})
            for source, place in loop.LEAVES.items():
                shutil.rmtree(MODELS / place, ignore_errors=True)
                shutil.copytree(work / source, MODELS / place)
            shutil.rmtree(GRIDS, ignore_errors=True)
            shutil.copytree(work / "grids", GRIDS)
            rows = [asdict(report) for report in trained.reports]
            tables.write_dicts("metrics/plots/epochs.csv", rows, CURVES)
            model = MODELS / "ddpm" / "best_model"
            figures = {**trained.figures(task), "model_digest": files.digest_tree(model)}
            files.write_metrics("train", figures)
            run.log_model(model, figures["model_digest"], register=options.register_model)
    print(trained.summary())


if __name__ == "__main__":
    run_stage_on_processes(main)
