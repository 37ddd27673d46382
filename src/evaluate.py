"""Stage evaluate: scores the generated pictures; metrics/evaluate.json and an MLflow run."""

import os
import sys
from pathlib import Path

from pttfaces.stage import run_stage
from pttfaces import config, files, images, tables, workdir

FOLDERS = {  # evaluate.reference: where it lies, and what to do where nothing lies there
    "train": ("data/dataset/train", "run `dvc repro`, which makes it"),
    "holdout": ("data/dataset/holdout", "raise curate.holdout, or set evaluate.reference: train"),
    "reference": ("data/reference", "put pictures there, or set evaluate.reference: train"),
}
SAMPLES = "data/generated", "run `dvc repro`, which makes them"
MODEL, SHOWN = Path("models/ddpm/best_model"), Path("metrics/pictures")
# What metrics/generate.json says of the samples, beside their number: by this one can tell later
# whether the score is that of the samples at hand.
MADE_WITH = ("sampler", "infer_steps", "timestep_spacing", "seed", "model_digest")


def main() -> None:
    everything = config.load()
    options, name = everything.evaluate, everything.evaluate.reference
    from pttfaces import tracking
    from pttfaces.evaluation import evaluate, face_rate, features, image_folder
    from pttfaces.faces.detectors import make_detector

    made = files.read_json("metrics/generate.json")
    samples, trained = (
        image_folder.open_folder(*SAMPLES),
        image_folder.open_folder(*FOLDERS["train"]),
    )
    reference = (
        image_folder.open_folder(*FOLDERS[name]) if name in FOLDERS else workdir.find_file(name)
    )
    held_out = image_folder.open_if_any(FOLDERS["holdout"][0])
    least = samples.size[0]  # of a face: a quarter of the enlarged picture's side
    judge, key = (options.detector, options.detector_weights), "evaluate.detector_weights"
    detector = make_detector(*judge, min_size=least, weights_key=key)
    extractor = features.make_extractor(options, workdir.cache_dir("statistics"))
    report = evaluate.score(
        extractor, evaluate.Sets(samples, reference, trained, held_out), options.max_copied
    )
    figures, distance = report.figures, extractor.distance_name
    if options.repeats > 1:
        from pttfaces.sampling import generation  # takes seconds

        seeds = range(everything.seed + 1, everything.seed + options.repeats)
        more = generation.generate_seeds(MODEL, everything.generate, everything.infer_steps, seeds)
        others = [
            evaluate.distance(extractor, image_folder.open_folder(*one), reference) for one in more
        ]
        figures["repeats"] = evaluate.repeated([figures[distance], *others], everything.seed)
    rates = face_rate.face_rates(samples, trained, detector.detect)
    figures |= {"reference": name, "face_rate": {"detector": options.detector, **rates}}
    figures |= {key: made[key] for key in MADE_WITH if key in made}
    figures = evaluate.rounded(figures)
    for title, picture in report.pictures.items():
        images.save_png(SHOWN / title, picture)
    tables.write_dicts("data/neighbours.csv", report.neighbours, list(report.neighbours[0]))
    tables.write_dicts("metrics/plots/nearest.csv", report.distances, list(report.distances[0]))
    files.write_metrics("evaluate", figures)
    # One run for all that say the same of the same, such as those before and after a kill.
    same = [everything.flat(), figures, os.environ.get("DVC_EXP_NAME")]
    with (
        workdir.resuming("evaluate", same, until_recorded=True) as work,
        tracking.evaluation_run(everything, made["model_digest"], work / "mlflow_run") as run,
    ):
        run.log_metrics(evaluate.numbers(figures))
        run.log_tags({key: str(figures[key]) for key in (*evaluate.COMPARABLE, "reference")})
        for title in ("samples.png", *report.pictures):
            run.log_picture(SHOWN / title, title)
        run.log_verdict(report.copy_warning)
        run.move_best(distance, evaluate.COMPARABLE)
    for sentence in [*evaluate.warnings(figures), *filter(None, [report.copy_warning])]:
        print(f"warning: {sentence}", file=sys.stderr)
    floor = f" (floor {figures['floor']:.4g})" if "floor" in figures else ""
    print(
        f"evaluate: {distance} {figures[distance]:.4g}{floor} of {len(samples)} pictures; "
        f"{options.detector} finds a face in {rates['generated']:.0%} of them and in "
        f"{rates['real']:.0%} of real crops; {figures['copies']['copied']:.1%} are copies"
    )


if __name__ == "__main__":
    run_stage(main)
