"""What the report shows, read from metrics, pictures and DVC's experiments; draws nothing."""

import base64
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from pttfaces import config, files
from pttfaces.errors import DataError, ParamsError
from pttfaces.report.revisions import DISTANCES, State, all_states, here

STAGES = (
    "crawl",
    "links",
    "download",
    "detect",
    "crop",
    "curate",
    "train",
    "generate",
    "evaluate",
)
PICTURES = Path("metrics/pictures")
_WIDEST = 1600
_SHOWN_EXPERIMENTS = 12


@dataclass(frozen=True)
class Step:
    """One step of the funnel. count: what is left after it; left_out: reason → how many."""

    what: str
    count: int
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """One scored set of samples. names: the states that hold it; settings: what it ran with;
    distance: its name and figure; samples: a picture's data URI, or "" where it is not at hand."""

    names: tuple[str, ...]
    settings: Mapping[str, Any]
    train: Mapping[str, Any]
    generate: Mapping[str, Any]
    evaluate: Mapping[str, Any]
    curves: Sequence[Mapping[str, float | None]]
    samples: str

    @property
    def distance(self) -> tuple[str, float] | None:
        found = [(key, self.evaluate[key]) for key in DISTANCES if key in self.evaluate]
        return found[0] if found else None

    @property
    def measure(self) -> tuple[Any, ...]:
        """Distances compare only where all of this is equal."""
        keys = ("features", "dims", "network", "reference", "generated", "real", "data_digest")
        name = self.distance[0] if self.distance else ""
        return (name, *(self.evaluate.get(key) for key in keys))

    @property
    def seconds_a_picture(self) -> float | None:
        rate = self.generate.get("images_per_s")
        return 1 / rate if rate else None


def metrics() -> dict[str, dict[str, Any]]:
    """Stage → its figures; a stage that has not run, or not since the model was made anew, is left
    out. DataError: none has run."""
    found = {}
    for stage in STAGES:
        if Path(f"metrics/{stage}.json").exists():
            found[stage] = files.read_json(f"metrics/{stage}.json")
    if not found:
        raise DataError("there is nothing to report yet; run `make repro` or `dvc repro` first.")
    outdated = {stage for stage, figures in here().metrics.items() if not figures}
    return {stage: figures for stage, figures in found.items() if stage not in outdated}


def funnel(figures: Mapping[str, Mapping[str, Any]]) -> list[Step]:
    """From the rows of the board to the training pictures; steps without figures are left out."""
    crawl, links, download, detect, crop, curate = (figures.get(stage, {}) for stage in STAGES[:6])
    steps = [
        _step("rows of the board", crawl.get("rows_seen")),
        _step("articles kept", crawl.get("kept"), crawl.get("left_out")),
        _step("articles read", _ok(links, "articles"), _but_ok(links, "articles")),
        _step("picture links", links.get("links"), {"unresolved": links.get("unresolved")}),
        _step("pictures fetched", download.get("pictures"), _but_ok(download, "status")),
        _step(
            "pictures with a face",
            detect.get("with_face"),
            {"no face": detect.get("without_face"), "unreadable": detect.get("unreadable")},
        ),
        _step("crops", crop.get("crops"), {"not aligned": crop.get("not_aligned")}),
        _step("pictures of the data set", curate.get("kept"), curate.get("left_out")),
        _step("training pictures", curate.get("train"), {"held out": curate.get("holdout")}),
    ]
    return [step for step in steps if step is not None]


def results() -> list[Result]:
    """Every scored result once: the working folder's first, then experiments', then commits'."""
    grouped: dict[tuple[Any, ...], list[State]] = {}
    for state in all_states():
        if state.evaluate:
            scores = (state.evaluate.get(key) for key in DISTANCES)
            grouped.setdefault((*state.samples, *scores), []).append(state)
    return [
        _result(group, with_samples=place < _SHOWN_EXPERIMENTS)
        for place, group in enumerate(grouped.values())
    ]


def curves(text: str) -> list[dict[str, float | None]]:
    """The rows of metrics/plots/epochs.csv; an empty cell is None."""
    return [
        {key: _number(value) for key, value in row.items() if key}
        for row in csv.DictReader(io.StringIO(text, newline=None))
    ]


def grids(folder: Path = PICTURES / "train") -> list[tuple[int, str]]:
    """(epoch, data URI) of every sample grid, in order."""
    found = []
    for path in sorted(folder.glob("epoch-*.png")):
        if number := re.search(r"\d+", path.stem):
            found.append((int(number[0]), picture(path, 640)))
    return found


def picture(path: Path, widest: int = _WIDEST) -> str:
    """A picture as a data URI, no wider than `widest` pixels; "" where there is none."""
    return embedded(path.read_bytes(), widest) if path.exists() else ""


def embedded(content: bytes, widest: int) -> str:
    """An image file's bytes as a WebP data URI; "" where they are no image."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            shown = image.convert("RGB")
    except (OSError, SyntaxError, ValueError):
        return ""
    if shown.width > widest:
        shown.thumbnail((widest, shown.height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    shown.save(buffer, "WEBP", quality=86)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def settings(state: State) -> dict[str, Any]:
    """The flat parameters of a state, as far as they can be read.

    params.yaml may have changed since: what a stage ran with, by dvc.lock, stands over it.
    """
    flat = files.flatten(_group(_values(state, "params.yaml")))
    noted = _values(state, "dvc.lock")
    for stage in reversed(STAGES):  # where two differ, the earlier one ran last
        flat |= files.flatten(_group(noted, "stages", stage, "params", "params.yaml"))
    return flat


def _values(state: State, path: str) -> Any:
    try:
        return config.parse(state.read(path))
    except ParamsError:
        return None


def _group(values: Any, *keys: str) -> Mapping[str, Any]:
    """The group that lies below these keys, one in the other; {} where none does."""
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}


def _result(states: Sequence[State], with_samples: bool) -> Result:
    first = states[0]
    return Result(
        tuple(_called(states)),
        settings(first),
        first.train,
        first.metrics["generate"],
        {"data_digest": first.train.get("data_digest"), **first.evaluate},
        curves(first.read("metrics/plots/epochs.csv")),
        _samples(states) if with_samples else "",
    )


def _called(states: Sequence[State]) -> Iterator[str]:
    """Names to show: of several commits that hold the same, the newest and how many more."""
    yield from (state.name for state in states if state.kind != "commit")
    commits = [state.name for state in states if state.kind == "commit"]
    if commits:
        yield commits[0] if len(commits) == 1 else f"{commits[0]} and {len(commits) - 1} older"


def _samples(states: Sequence[State]) -> str:
    """The picture of samples, from the working folder or out of DVC's cache."""
    path = PICTURES / "samples.png"
    if any(state.kind == "folder" for state in states):
        return picture(path, 560)
    import dvc.api  # takes a second

    for state in states:
        try:
            repository = dvc.api.DVCFileSystem(rev=state.commit)
            return embedded(repository.read_bytes(path.as_posix()), 560)
        except Exception:  # of many kinds: no DVC repository, not in the cache, an older layout
            continue
    return ""


def _step(what: str, count: Any, left_out: Mapping[str, Any] | None = None) -> Step | None:
    if not isinstance(count, int):
        return None
    reasons = {
        reason.replace("_", " "): number
        for reason, number in (left_out or {}).items()
        if isinstance(number, int) and number
    }
    return Step(what, count, reasons)


def _ok(figures: Mapping[str, Any], key: str) -> Any:
    return figures.get(key, {}).get("ok")


def _but_ok(figures: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {reason: count for reason, count in figures.get(key, {}).items() if reason != "ok"}


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
