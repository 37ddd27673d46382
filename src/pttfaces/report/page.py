"""Renders the report from the page's template; a part without data is left out."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pttfaces import files
from pttfaces.report import charts, data
from pttfaces.report.data import IMAGES, ScoredResult
from pttfaces.report.revisions import working_folder
from pttfaces.report.verdict import verdict

_MADE_BY = {"samples": "generate", "density": "evaluate", "nearest": "evaluate"}


def render() -> str:
    """The page as HTML, of the working folder; DataError: no stage has run."""
    figures = data.stage_metrics()
    results = data.results()
    own = results[0] if results and "this folder" in results[0].names else None
    environment = Environment(
        loader=PackageLoader("pttfaces.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(
        tiles=_tiles(figures, own),
        funnel=data.funnel(figures),
        sharpness=charts.sharpness_bars(figures),
        curves=charts.training_curves(),
        grids=data.grids(),
        images=_images(figures),
        results=[_row(result, own) for result in results],
        charts=charts.comparisons(results, own),
        copies=_flat(figures.get("evaluate", {}).get("copies", {})),
        seconds=[(stage, each["seconds"]) for stage, each in figures.items() if "seconds" in each],
        settings=data.settings(working_folder()),
        digests={
            "data": figures.get("train", {}).get("data_digest", ""),
            "model": figures.get("train", {}).get("model_digest", ""),
        },
    )


def _images(figures: Mapping[str, Any]) -> dict[str, str]:
    """Name → data URI of every image that a stage wrote; "" for an expected one that is missing or
    whose stage has no figures."""
    expected = dict.fromkeys(("contact_sheet", "sharpness", "samples", "nearest"), "")
    return expected | {
        path.stem: data.data_uri(path)
        for path in sorted(IMAGES.glob("*.png"))
        if path.stem not in _MADE_BY or _MADE_BY[path.stem] in figures
    }


def _tiles(figures: Mapping[str, Any], own: ScoredResult | None) -> list[tuple[str, str, str]]:
    """(figure, its name, a remark) of the most important figures."""
    tiles = []
    if "curate" in figures:
        held = figures["curate"].get("holdout", 0)
        tiles.append((f"{figures['curate']['train']:,}", "training images", f"{held} held out"))
    if "train" in figures:
        train = figures["train"]
        size = f"{train['parameters'] / 1e6:.1f} million weights"
        tiles.append((str(train["best_epoch"]), "best epoch", f"of {train['epochs']}; {size}"))
    if own and (score := own.score):
        floor = own.evaluate.get("floor")
        remarks = [] if score.low is None else [f"{score.low:.4g} to {score.high:.4g}"]
        remarks += [] if floor is None else [f"real images among themselves: {floor:.3g}"]
        tiles.append((f"{score.value:.4g}", score.name.replace("_", " "), "; ".join(remarks)))
        rate = own.evaluate.get("face_rate")
        if rate:
            real = f"{rate['real']:.0%} of real crops ({rate['detector']})"
            tiles.append((f"{rate['generated']:.0%}", "samples with a face", real))
    total = sum(each.get("seconds", 0) for each in figures.values())
    tiles.append((_duration(total), "for the whole pipeline", "each stage's last run"))
    return tiles


def _row(result: ScoredResult, own: ScoredResult | None) -> dict[str, Any]:
    rate = result.evaluate.get("face_rate") or {}
    return {
        "names": result.names,
        "samples": result.samples,
        "schedule": result.settings.get("noise_schedule", ""),
        "blur": result.settings.get("blur_threshold", ""),
        "sampler": result.evaluate.get("sampler", ""),
        "steps": result.evaluate.get("infer_steps", ""),
        "loss": _loss(result.revision.train),
        "score": result.score,
        "verdict": _verdict(result, own),
        "face_rate": rate.get("generated"),
        "seconds": result.seconds_per_image,
        "device": result.revision.generate.get("device", ""),
    }


def _verdict(result: ScoredResult, own: ScoredResult | None) -> str:
    """What a result's score is beside this folder's; "" for its own, or without one of the two."""
    if own is None or result is own or not (own.score and result.score):
        return ""
    return verdict(result.score, own.score)


def _loss(train: Mapping[str, Any]) -> str:
    """The validation loss; without one the training loss, which does not compare with it."""
    if train.get("val_loss") is not None:
        return f"{train['val_loss']:.4f}"
    if train.get("train_loss") is not None:
        return f"{train['train_loss']:.4f} (training)"
    return ""


def _flat(figures: Mapping[str, Any]) -> dict[str, float]:
    flat = files.flatten(figures, ": ")
    return {
        key.replace("_", " "): value
        for key, value in flat.items()
        if isinstance(value, int | float)
    }


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
