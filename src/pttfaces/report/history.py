"""Formats the history as text: a table of all runs, and what belongs to a run or a revision."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from pttfaces.errors import DataError
from pttfaces.evaluation import DISTANCES
from pttfaces.report.revisions import Revision, holds_result
from pttfaces.report.verdict import Score, verdict

if TYPE_CHECKING:
    from mlflow.entities import Run

_SHORT = 8  # digits of a run's id


def table(runs: Sequence["Run"]) -> list[str]:
    """One line per run, newest training first, its evaluations indented below it."""
    ids = {run.info.run_id for run in runs}
    children: dict[str, list[Run]] = {}
    for run in runs:
        children.setdefault(_parent(run) if _parent(run) in ids else "", []).append(run)
    rows: list[tuple[str, ...]] = [("run", "status", "started", "experiment", "what", "metrics")]
    for run in children.get("", []):
        rows.append(_row(run, ""))
        rows.extend(_row(child, "  ") for child in reversed(children.get(run.info.run_id, [])))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def find_run(name: str, runs: Sequence["Run"]) -> "Run":
    """The run whose id begins with these digits, four at least; DataError: none, or several."""
    fits = [run for run in runs if run.info.run_id.startswith(name)] if len(name) >= 4 else []
    if len(fits) != 1:
        what = (
            f"ambiguous: {len(fits)} runs begin with it"
            if fits
            else "not an experiment, commit or run (give at least 4 digits of a run's id)"
        )
        raise DataError(f"{name} is {what}; `pttfaces history` lists the runs.")
    return fits[0]


def compare(results: Sequence[tuple[str, "Revision | Run"]]) -> list[str]:
    """The scores of two named revisions or runs, and which is better as far as the samples tell.

    DataError: one has no score.
    """
    scores = []
    for name, result in results:
        if isinstance(result, Revision):
            score = result.score
        else:
            score = Score.of(result.data.metrics, result.data.tags)
        if score is None:
            raise DataError(f"{name} has no score; name an evaluation, a commit or an experiment.")
        scores.append(score)
    first, second = (name for name, _ in results)
    width = max(len(first), len(second))
    lines = [f"{first:<{width}}  {scores[0].text}", f"{second:<{width}}  {scores[1].text}"]
    said = {
        "better": f"{first} is better than {second}.",
        "worse": f"{first} is worse than {second}.",
        "cannot tell": f"The samples cannot tell which of {first} and {second} is better.",
        "not comparable": f"{first} and {second} do not compare: they were scored with other "
        "training images, reference, features or numbers of samples.",
    }
    return [*lines, said[verdict(*scores)]]


def describe_run(run: "Run", revisions: Sequence[Revision]) -> list[str]:
    """What a run is, where its result is, and the commands that restore it."""
    tags = run.data.tags
    holding = [revision for revision in revisions if holds_result(revision, tags, run.data.metrics)]
    lines = [
        f"run         {run.info.run_id}",
        f"what        {_what(run)}, {run.info.status}, started {_began(run)}",
        *(f"{label:<11} {tags[key]}" for label, key in _TAGS if tags.get(key)),
        f"figures     {_figures(run) or 'none'}",
        f"result in   {_names(holding)}",
    ]
    others = [revision for revision in holding if revision.commands]
    if len(others) < len(holding):
        lines.append("restore     nothing to do: this folder holds it")
    elif others:
        name = tags.get("dvc_experiment")
        own = next((revision for revision in others if revision.name == name), others[0])
        lines += _lines("restore", own.commands)
    if tags.get("stage") == "train" and "model_digest" in tags:
        lines += _lines("model only", [_download(run, "model")])
    elif not holding:
        lines += _lines("parameters", [_download(run, "params.yaml")])
    return lines


def describe_revision(revision: Revision, runs: Sequence["Run"]) -> list[str]:
    """What an experiment or commit holds, its runs, and the commands that restore it."""
    own = [run for run in runs if holds_result(revision, run.data.tags, run.data.metrics)]
    listed = [f"{run.info.run_id}  {_what(run)}: {_figures(run)}" for run in own]
    score = revision.score
    named = [f"{revision.kind:<11} {revision.name}"] if revision.kind != "commit" else []
    return [
        *named,
        f"commit      {revision.commit}",
        f"data        {revision.train.get('data_digest', 'not trained yet')}",
        f"model       {revision.train.get('model_digest', 'not trained yet')}",
        f"score       {score.text if score else 'not evaluated yet'}",
        *_lines("runs", listed or ["none in this store: made on another machine, or deleted"]),
        *_lines("restore", revision.commands),
    ]


_TAGS = (
    ("experiment", "dvc_experiment"),
    ("from commit", "dvc_baseline"),
    ("data", "data_digest"),
    ("model", "model_digest"),
    ("reason", "reason"),
)


def _lines(label: str, texts: Sequence[str]) -> list[str]:
    return [f"{label if index == 0 else '':<11} {text}" for index, text in enumerate(texts)]


def _row(run: "Run", indent: str) -> tuple[str, ...]:
    return (
        indent + run.info.run_id[:_SHORT],
        run.info.status,
        _began(run),
        run.data.tags.get("dvc_experiment", ""),
        _what(run),
        _figures(run) or run.data.tags.get("reason", ""),
    )


def _what(run: "Run") -> str:
    name, stage = run.info.run_name or "", run.data.tags.get("stage", "evaluate")
    if stage == "train" and ": " not in name:  # of version 0.2 or before
        schedule, epochs = (run.data.params.get(key) for key in ("noise_schedule", "train.epochs"))
        name = f"{schedule}, {epochs} epochs"
    return f"{stage} {name.rpartition(': ')[2]}"


def _figures(run: "Run") -> str:
    """The best model's losses, as in metrics/train.json; the last epoch's if a run lacks them."""
    figures = run.data.metrics
    best = {key: f"best_{key}" for key in ("train_loss", "val_loss")}
    losses = (name if name in figures else key for key, name in best.items())
    shown = (*losses, "best_epoch", *DISTANCES, "face_rate_generated")
    return ", ".join(f"{key} {figures[key]:.4g}" for key in shown if key in figures)


def _began(run: "Run") -> str:
    return f"{datetime.fromtimestamp(run.info.start_time / 1000):%Y-%m-%d %H:%M}"


def _parent(run: "Run") -> str:
    return run.data.tags.get("mlflow.parentRunId", "")


def _names(holding: Sequence[Revision]) -> str:
    names = (
        revision.name if revision.kind == "folder" else f"{revision.kind} {revision.name}"
        for revision in holding
    )
    return ", ".join(names) or "no commit or experiment"


def _download(run: "Run", path: str) -> str:
    command = f"mlflow artifacts download --run-id {run.info.run_id} --artifact-path {path}"
    return f"{command} --dst-path from_mlflow"
