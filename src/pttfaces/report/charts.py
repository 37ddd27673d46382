"""Chooses which figures each chart of the report shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pttfaces.report import data, svg
from pttfaces.report.data import ScoredResult
from pttfaces.report.revisions import working_folder
from pttfaces.report.svg import Series
from pttfaces.report.verdict import verdict

_MAX_TRAININGS = 6
_SHORT = 8  # digits of a digest


def sharpness_bars(figures: Mapping[str, Any]) -> Markup:
    rows = data.curves(working_folder().read("metrics/plots/blur.csv"))
    edges, counts = (
        [value for row in rows if (value := row.get(key)) is not None]
        for key in ("variance", "crops")
    )
    if not len(rows) == len(edges) == len(counts) >= 3:
        return Markup("")
    bound = data.settings(working_folder()).get("blur_threshold")
    title = f"Sharpness of {figures.get('curate', {}).get('crops', 'the')} crops"
    x_label = "sharpness; the outer bars are open"
    return Markup(svg.histogram(title, x_label, edges, counts, bound))


def training_curves() -> list[Markup]:
    rows = data.curves(working_folder().read("metrics/plots/epochs.csv"))
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
        ("Training images per second", of("images_per_s"), False),
    )
    return [
        Markup(svg.lines(title, "epoch", series, log_y=log_y))
        for title, series, log_y in panels
        if series
    ]


def comparisons(results: Sequence[ScoredResult], own: ScoredResult | None) -> list[Markup]:
    """Distance and time by sampling steps, of results that compare with the working folder's; the
    losses of several trainings."""
    drawn: list[Markup] = []
    if own and (score := own.score):
        comparable = [
            result
            for result in results
            if result.score and verdict(result.score, score) != "not comparable"
        ]
        if len({result.evaluate.get("infer_steps") for result in comparable}) > 1:
            by_training = _by_training(comparable)
            name = score.name.replace("_", " ")
            title = f"{name[0].upper()}{name[1:]} (lower is better)"
            panels = (
                (title, lambda result: result.score.value),
                ("Seconds per image", lambda result: result.seconds_per_image),
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
                    drawn.append(Markup(svg.scores(title, "sampling steps", series)))
    trainings = {_label(result): result.curves for result in reversed(results) if result.curves}
    newest = list(reversed(trainings.items()))[:_MAX_TRAININGS]
    losses = [
        Series(label, [row["epoch"] or 0.0 for row in rows], [row.get("val_loss") for row in rows])
        for label, rows in newest
    ]
    losses = [line for line in losses if line.points[0]]
    if len(losses) > 1:
        title = "Validation loss of each training run"
        drawn.append(Markup(svg.lines(title, "epoch", losses, log_y=True)))
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
