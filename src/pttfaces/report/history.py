"""The history in words: a table of all runs, and what belongs to one run or one state.

Takes MLflow's run objects as they come, and the states that `states` read from git.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from pttfaces.report.revisions import DISTANCES, State, holds

if TYPE_CHECKING:
    from mlflow.entities import Run

_SHORT = 8


def table(runs: Sequence["Run"]) -> list[str]:
    """One line a run, newest training first, its evaluations indented below it."""
    known = {run.info.run_id for run in runs}
    below: dict[str, list[Run]] = {}
    for run in runs:
        below.setdefault(_parent(run) if _parent(run) in known else "", []).append(run)
    rows = []
    for run in below.get("", []):
        rows.append(_row(run, ""))
        rows.extend(_row(child, "  ") for child in reversed(below.get(run.info.run_id, [])))
    heads = ("run", "status", "began", "experiment", "what", "figures")
    widths = [max(len(row[place]) for row in [heads, *rows]) for place in range(len(heads))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [heads, *rows]
    ]


def of_run(run: "Run", states: Sequence[State]) -> list[str]:
    """What a run is, where its result lies, and the commands that bring it back."""
    tags = run.data.tags
    holding = [state for state in states if holds(state, tags, run.data.metrics)]
    lines = [
        f"run         {run.info.run_id}",
        f"what        {_what(run)}, {run.info.status}, began {_began(run)}",
        *(f"{label:<11} {tags[key]}" for label, key in _TAGS if tags.get(key)),
        f"figures     {_figures(run) or 'none'}",
        f"result in   {_listed(holding)}",
    ]
    away = [state for state in holding if state.commands]
    if len(away) < len(holding):
        lines.append("bring back  nothing to do: this folder holds it")
    elif away:
        away.sort(key=lambda state: state.name != tags.get("dvc_experiment"))  # its own first
        lines += _steps("bring back", away[0].commands)
    if tags.get("stage") == "train" and "model_digest" in tags:
        lines += _steps("model only", [_download(run, "model")])
    elif not holding:
        lines += _steps("parameters", [_download(run, "params.yaml")])
    return lines


def of_state(state: State, runs: Sequence["Run"]) -> list[str]:
    """What an experiment or commit holds, its runs, and the commands that bring it back."""
    mine = [run for run in runs if holds(state, run.data.tags, run.data.metrics)]
    found = [f"{run.info.run_id}  {_what(run)}: {_figures(run)}" for run in mine]
    scores = [f"{key} {state.evaluate[key]:g}" for key in DISTANCES if key in state.evaluate]
    return [
        f"{state.kind:<11} {state.name}",
        f"commit      {state.commit}",
        f"data        {state.train.get('data_digest', 'not trained yet')}",
        f"model       {state.train.get('model_digest', 'not trained yet')}",
        f"score       {', '.join(scores) or 'not evaluated yet'}",
        *_steps("runs", found or ["none in this store; they ran elsewhere, or were deleted"]),
        *_steps("bring back", state.commands),
    ]


_TAGS = (
    ("experiment", "dvc_experiment"),
    ("from commit", "dvc_baseline"),
    ("data", "data_digest"),
    ("model", "model_digest"),
    ("reason", "reason"),
)


def _steps(label: str, steps: Sequence[str]) -> list[str]:
    return [f"{label if place == 0 else '':<11} {step}" for place, step in enumerate(steps)]


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
    if run.data.tags.get("stage") == "train":
        schedule, epochs = (run.data.params.get(key) for key in ("noise_schedule", "train.epochs"))
        return f"train {schedule}, {epochs} epochs"
    return f"evaluate {run.info.run_name}"


def _figures(run: "Run") -> str:
    """The kept model's losses, as metrics/train.json has them; without those, the last epoch's."""
    figures = run.data.metrics
    best = {key: f"best_{key}" for key in ("train_loss", "val_loss")}
    losses = (better if better in figures else key for key, better in best.items())
    shown = (*losses, "best_epoch", *DISTANCES, "face_rate_generated")
    return ", ".join(f"{key} {figures[key]:.4g}" for key in shown if key in figures)


def _began(run: "Run") -> str:
    return f"{datetime.fromtimestamp(run.info.start_time / 1000):%Y-%m-%d %H:%M}"


def _parent(run: "Run") -> str:
    return run.data.tags.get("mlflow.parentRunId", "")


def _listed(holding: Sequence[State]) -> str:
    called = (
        state.name if state.kind == "folder" else f"{state.kind} {state.name}" for state in holding
    )
    return ", ".join(called) or "no commit or experiment"


def _download(run: "Run", path: str) -> str:
    source = f"mlflow artifacts download --run-id {run.info.run_id} --artifact-path {path}"
    return f"{source} --dst-path from_mlflow"
