"""Stage evaluate: scores the generated pictures; metrics/evaluate.json and an MLflow run."""

import sys
from pathlib import Path

from pttfaces import cli, files, params, pictures

FOLDERS = {  # evaluate.reference: where it lies, and what to do where nothing lies there
    "train": ("data/dataset/train", "run `dvc repro`, which makes it"),
    "holdout": ("data/dataset/holdout", "raise curate.holdout, or set evaluate.reference: train"),
    "reference": ("data/reference", "put pictures there, or set evaluate.reference: train"),
}
SHOWN = Path("metrics/pictures")


def main() -> None:
    everything = params.load()
    options, name = everything.evaluate, everything.evaluate.reference
    from pttfaces import tracking
    from pttfaces.faces.detectors import make_detector
    from pttfaces.scores import comparison, faces, features, folder

    made = files.read_json("metrics/generate.json")
    samples = folder.open_folder("data/generated", "run `dvc repro`, which makes them")
    sets = comparison.Sets(
        samples,
        folder.open_folder(*FOLDERS[name]) if name in FOLDERS else files.named(name),
        folder.open_folder(*FOLDERS["train"]),
        folder.open_if_any(FOLDERS["holdout"][0]),
    )
    least = samples.size[0]  # of a face: a quarter of the enlarged picture's side
    judge, key = (options.detector, options.detector_weights), "evaluate.detector_weights"
    detector = make_detector(*judge, min_size=least, weights_key=key)
    kind, cache = (options.features, options.dims, options.weights), files.cache_dir("statistics")
    extractor = features.make_extractor(*kind, batch_size=options.batch_size, cache=cache)
    figures, pairs = comparison.score(extractor, sets)
    rates = faces.face_rates(samples, sets.trained, detector.detect)
    figures |= {"reference": name, "face_rate": {"detector": options.detector, **rates}}
    figures |= {key: made[key] for key in ("sampler", "infer_steps", "model_digest")}
    figures = comparison.rounded(figures)
    pictures.save_png(SHOWN / "nearest.png", pairs)
    files.write_metrics("evaluate", figures)
    with tracking.evaluation_run(everything, model_digest=made["model_digest"]) as run:
        run.log_metrics(comparison.numbers(figures))
        run.log_tags({key: figures[key] for key in ("features", "network", "reference")})
        for title in ("samples.png", "nearest.png"):
            run.log_picture(SHOWN / title, title)
    for sentence in comparison.warnings(figures):
        print(f"warning: {sentence}", file=sys.stderr)
    floor = f" (floor {figures['floor']:.4g})" if "floor" in figures else ""
    print(
        f"evaluate: {extractor.distance_name} {figures[extractor.distance_name]:.4g}{floor} of "
        f"{len(samples)} pictures; {options.detector} finds a face in {rates['generated']:.0%} of "
        f"them and in {rates['real']:.0%} of real crops"
    )


if __name__ == "__main__":
    cli.run_stage(main)
