"""Renders the report from the page's template; a part without data is left out."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pttfaces import files
from pttfaces.report import charts, data
from pttfaces.report.charts import Series
from pttfaces.report.data import IMAGES, ScoredResult
from pttfaces.report.revisions import working_folder

_MAX_TRAININGS = 6
_SHORT = 8  # digits of a digest
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
        sharpness=_sharpness(figures),
        curves=_curves(),
        grids=data.grids(),
        images=_images(figures),
        results=[_row(result, own) for result in results],
        charts=_comparisons(results, own),
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
    expected = dict.fromkeys(("contact_sheet", "samples", "nearest"), "")
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
    if own and own.distance:
        name, value = own.distance
        floor = own.evaluate.get("floor")
        remark = f"real images among themselves: {floor:.3g}" if floor is not None else ""
        tiles.append((f"{value:.4g}", name.replace("_", " "), remark))
        rate = own.evaluate.get("face_rate")
        if rate:
            real = f"{rate['real']:.0%} of real crops ({rate['detector']})"
            tiles.append((f"{rate['generated']:.0%}", "samples with a face", real))
    total = sum(each.get("seconds", 0) for each in figures.values())
    tiles.append((_duration(total), "for the whole pipeline", "each stage's last run"))
    return tiles


def _sharpness(figures: Mapping[str, Any]) -> Markup:
    rows = data.curves(_text("metrics/plots/blur.csv"))
    edges, counts = ([row.get(key) for row in rows] for key in ("variance", "crops"))
    if len(rows) < 3 or None in edges or None in counts:
        return Markup("")
    bound = data.settings(working_folder()).get("blur_threshold")
    title = f"Sharpness of {figures.get('crop', {}).get('crops', 'the')} crops"
    return Markup(
        charts.histogram(
            title,
            "variance of the Laplacian; the outer bars are open",
            edges,  # type: ignore[arg-type]
            counts,  # type: ignore[arg-type]
            bound,
        )
    )


def _curves() -> list[Markup]:
    rows = data.curves(_text("metrics/plots/epochs.csv"))
    if len(rows) < 2:
        return []
    epochs = [row["epoch"] or 0.0 for row in rows]

    def of(*columns: str) -> list[Series]:
        lines = [
            Series(name.replace("_", " "), epochs, [row.get(name) for row in rows])
            for name in columns
        ]
        return [series for series in lines if series.points[0]]

    panels = (
        ("Loss", of("train_loss", "val_loss"), True),
        ("Learning rate", of("learning_rate"), False),
        ("Norm of the gradient", of("grad_norm"), False),
        ("Images a second in training", of("images_per_s"), False),
    )
    return [
        Markup(charts.lines(title, "epoch", series, log_y=log_y))
        for title, series, log_y in panels
        if series
    ]


def _comparisons(results: Sequence[ScoredResult], own: ScoredResult | None) -> list[Markup]:
    """Distance and time by sampling steps, of results that compare with the working folder's; the
    losses of several trainings."""
    drawn: list[Markup] = []
    if own and own.distance:
        alike = [result for result in results if result.comparison_key == own.comparison_key]
        if len({result.evaluate.get("infer_steps") for result in alike}) > 1:
            by_training = _by_training(alike)
            name = own.distance[0].replace("_", " ")
            title = f"{name[0].upper()}{name[1:]} (less is better)"
            panels = (
                (title, lambda result: result.distance[1]),
                ("Seconds an image", lambda result: result.seconds_per_image),
            )
            for title, value in panels:
                series = [
                    Series(
                        label,
                        [result.evaluate["infer_steps"] for result in group],
                        [value(result) for result in group],
                    )
                    for label, group in by_training.items()
                ]
                if any(line.points[0] for line in series):
                    drawn.append(Markup(charts.scores(title, "sampling steps", series)))
    trainings = {_label(result): result.curves for result in reversed(results) if result.curves}
    newest = list(reversed(trainings.items()))[:_MAX_TRAININGS]
    losses = [
        Series(label, [row["epoch"] or 0.0 for row in rows], [row.get("val_loss") for row in rows])
        for label, rows in newest
    ]
    losses = [line for line in losses if line.points[0]]
    if len(losses) > 1:
        title = "Validation loss of each training"
        drawn.append(Markup(charts.lines(title, "epoch", losses, log_y=True)))
    return drawn


def _by_training(results: Sequence[ScoredResult]) -> dict[str, list[ScoredResult]]:
    groups: dict[str, list[ScoredResult]] = {}
    for result in sorted(results, key=lambda result: result.evaluate["infer_steps"]):
        groups.setdefault(f"{_label(result)}, {result.evaluate.get('sampler', '')}", []).append(
            result
        )
    return dict(list(groups.items())[:_MAX_TRAININGS])


def _label(result: ScoredResult) -> str:
    digest = str(result.evaluate.get("model_digest", ""))[:_SHORT]
    return f"{result.settings.get('noise_schedule', 'model')} {digest}"


def _row(result: ScoredResult, own: ScoredResult | None) -> dict[str, Any]:
    rate = result.evaluate.get("face_rate") or {}
    return {
        "names": result.names,
        "samples": result.samples,
        "schedule": result.settings.get("noise_schedule", ""),
        "blur": result.settings.get("blur_threshold", ""),
        "sampler": result.evaluate.get("sampler", ""),
        "steps": result.evaluate.get("infer_steps", ""),
        "loss": _loss(result.train),
        "distance": result.distance,
        "compares": own is not None and result.comparison_key == own.comparison_key,
        "face_rate": rate.get("generated"),
        "seconds": result.seconds_per_image,
        "device": result.generate.get("device", ""),
    }


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


def _text(path: str) -> str:
    return working_folder().read(path)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
