"""Stage evaluate: scores the samples; writes metrics, sheets of images and an MLflow run."""

import os
import sys
from pathlib import Path

from pttfaces.stage import run_stage
from pttfaces import config, files, images, tables, workdir

FOLDERS = {  # evaluate.reference → its folder, and what to do if that has no image
    "train": ("data/dataset/train", "run `dvc repro`, which makes it"),
    "holdout": ("data/dataset/holdout", "raise curate.holdout, or set evaluate.reference: train"),
    "reference": ("data/reference", "put images there, or set evaluate.reference: train"),
}
SAMPLES = "data/generated", "run `dvc repro`, which makes them"
MODEL, GENERATED = Path("models/ddpm/best_model"), Path("metrics/generate.json")
SHEETS = Path("metrics/pictures")


def main() -> None:
    params = config.load()
    options, name = params.evaluate, params.evaluate.reference
    from pttfaces import provenance, tracking
    from pttfaces.evaluation import COMPARABLE, features, memorization, metrics, samples
    from pttfaces.evaluation.image_folder import open_folder, open_if_any
    from pttfaces.faces.detectors import make_detector
    from pttfaces.sampling import generation

    made = samples.sample_settings(params, MODEL)
    if GENERATED.exists():
        samples.check_settings(files.read_json(GENERATED), made)
    folders = {"train": open_folder(*FOLDERS["train"])}
    if name in FOLDERS and name not in folders:
        folders[name] = open_folder(*FOLDERS[name])
    sets = metrics.ImageSets(
        samples=open_folder(*SAMPLES),
        trained=folders["train"],
        reference=folders[name] if name in folders else workdir.find_file(name),
        held_out=open_if_any(FOLDERS["holdout"][0]),
    )
    face_options = options.face_detector(min_size=sets.samples.size[0])  # a quarter of the side
    detector = make_detector(face_options, weights_key="evaluate.detector_weights")
    extractor = features.make_extractor(options, workdir.cache_dir("statistics"))
    evaluation = metrics.compute(sets, extractor, detector.detect, options)
    distance, figures = extractor.distance_name, evaluation.figures
    if options.repeats > 1:
        seeds = range(params.seed + 1, params.seed + options.repeats)
        more = generation.generate_seeds(MODEL, params.generate, params.infer_steps, seeds)
        others = [metrics.distance(extractor, open_folder(*each), sets.reference) for each in more]
        figures["repeats"] = metrics.repeats([figures[distance], *others], params.seed)
    figures = metrics.rounded(figures | {key: made[key] for key in samples.RECORDED})
    for title, image in evaluation.sheets.items():
        images.save_png(SHEETS / title, image)
    tables.write_columns("data/neighbours.csv", evaluation.neighbours)
    tables.write_columns("metrics/plots/nearest.csv", evaluation.distances)
    files.write_metrics("evaluate", figures)
    # Evaluations with equal figures share a run, such as those before and after a kill.
    same = [params.flat(), figures, os.environ.get("DVC_EXP_NAME")]
    with (
        workdir.resuming("evaluate", same, until_recorded=True) as work,
        tracking.evaluation_run(params, made["model_digest"], work / "mlflow_run") as run,
    ):
        run.log_provenance(provenance.collect())
        reference = FOLDERS.get(name, (name, ""))[0]
        run.log_dataset(reference, figures["reference_digest"], "evaluation", figures.get("real"))
        run.log_metrics(metrics.flat_numbers(figures))
        run.log_tags({key: str(figures[key]) for key in (*COMPARABLE, "reference")})
        for title in ("samples.png", *evaluation.sheets):
            run.log_file(SHEETS / title)
        run.log_copy_warning(memorization.copy_warning(figures["copies"]))
        run.move_best(distance, COMPARABLE)
    for sentence in metrics.warnings(figures, sets):
        print(f"warning: {sentence}", file=sys.stderr)
    print(f"evaluate: {metrics.summary(figures, distance)}")


if __name__ == "__main__":
    run_stage(main)
