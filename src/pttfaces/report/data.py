"""Collects what the report shows from metrics, images and DVC's experiments."""

import base64
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from pttfaces import files
from pttfaces.errors import DataError
from pttfaces.evaluation import DISTANCES
from pttfaces.report.revisions import Revision, all_revisions, working_folder
from pttfaces.report.verdict import Score
from pttfaces.repository import STAGES, read_yaml, value_at

IMAGES = Path("metrics/pictures")
_MAX_WIDTH = 1600
_SAMPLES_WIDTH = 560
_MAX_WITH_SAMPLES = 12


@dataclass(frozen=True)
class FunnelStep:
    """One step of the funnel. count: what is left after it; left_out: reason → how many."""

    name: str
    count: int
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoredResult:
    """One scored set of samples. names: of the revisions that hold it; revision: the first of them;
    settings: what it ran with; samples: an image's data URI, or "" if it is not at hand."""

    names: tuple[str, ...]
    revision: Revision
    settings: Mapping[str, Any]
    curves: Sequence[Mapping[str, float | None]]
    samples: str

    @property
    def evaluate(self) -> Mapping[str, Any]:
        return self.revision.evaluate

    @property
    def score(self) -> Score | None:
        return self.revision.score

    @property
    def seconds_per_image(self) -> float | None:
        rate = self.revision.generate.get("images_per_s")
        return 1 / rate if rate else None


def stage_metrics() -> dict[str, dict[str, Any]]:
    """Stage → its figures, without stages that have not run since the model was last trained.

    DataError: no stage has run.
    """
    found = {}
    for stage in STAGES:
        if Path(f"metrics/{stage}.json").exists():
            found[stage] = files.read_json(f"metrics/{stage}.json")
    if not found:
        raise DataError("there is nothing to report yet; run `make repro` or `dvc repro` first.")
    outdated = {stage for stage, figures in working_folder().metrics.items() if not figures}
    return {stage: figures for stage, figures in found.items() if stage not in outdated}


def funnel(figures: Mapping[str, Mapping[str, Any]]) -> list[FunnelStep]:
    """From the board's rows to the training images, without steps that have no figures."""
    crawl, links, download, detect, crop, curate = (figures.get(stage, {}) for stage in STAGES[:6])
    no_image = {"without an image": download.get("hosts_without_images")}
    # Without `left_out` in figures of version 0.2.
    no_face = detect.get("left_out", {"no face": detect.get("without_face")})
    no_face = {**no_face, "unreadable": detect.get("unreadable")}
    steps = [
        _step("rows of the board", crawl.get("rows_seen")),
        _step("articles kept", crawl.get("kept"), crawl.get("left_out")),
        _step("articles read", _ok(links, "articles"), _all_but_ok(links, "articles")),
        _step("image links", links.get("links"), {"unresolved": links.get("unresolved")}),
        _step("hosts of these links", download.get("hosts"), no_image),
        _step("images downloaded", download.get("pictures"), _all_but_ok(download, "status")),
        _step("images with a face", detect.get("with_face"), no_face),
        _step("crops", crop.get("crops"), {"not aligned": crop.get("not_aligned")}),
        _step("images of the data set", curate.get("kept"), curate.get("left_out")),
        _step("training images", curate.get("train"), {"held out": curate.get("holdout")}),
    ]
    return [step for step in steps if step is not None]


def results() -> list[ScoredResult]:
    """Every scored result once: the working folder's first, then experiments', then commits'."""
    grouped: dict[tuple[Any, ...], list[Revision]] = {}
    for revision in all_revisions():
        if revision.evaluate:
            scores = (revision.evaluate.get(key) for key in DISTANCES)
            grouped.setdefault((*revision.samples, *scores), []).append(revision)
    return [
        ScoredResult(
            names=tuple(_names(group)),
            revision=group[0],
            settings=settings(group[0]),
            curves=curves(group[0].read("metrics/plots/epochs.csv")),
            samples=_samples(group) if index < _MAX_WITH_SAMPLES else "",
        )
        for index, group in enumerate(grouped.values())
    ]


def curves(text: str) -> list[dict[str, float | None]]:
    """The rows of a plot's CSV table; None for a cell without a number.

    Of a damaged table the rows that can be read; [] if there are none.
    """
    try:
        with warnings.catch_warnings(action="ignore", category=pd.errors.ParserWarning):
            frame = pd.read_csv(io.StringIO(text), index_col=False, on_bad_lines="skip")
    except (ValueError, pd.errors.ParserError):
        return []
    frame = frame.apply(pd.to_numeric, errors="coerce")
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def grids(folder: Path = IMAGES / "train") -> list[tuple[int, str]]:
    """(epoch, data URI) of every sample grid, in order."""
    found = []
    for path in sorted(folder.glob("epoch-*.png")):
        if number := re.search(r"\d+", path.stem):
            found.append((int(number[0]), data_uri(path, 640)))
    return found


def data_uri(path: Path, max_width: int = _MAX_WIDTH) -> str:
    """An image as a data URI, no wider than `max_width` pixels; "" if there is none."""
    return encode(path.read_bytes(), max_width) if path.exists() else ""


def encode(content: bytes, max_width: int) -> str:
    """An image file's bytes as a WebP data URI; "" if they are no image."""
    try:
        with Image.open(io.BytesIO(content)) as opened:
            image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError):
        return ""
    if image.width > max_width:
        image.thumbnail((max_width, image.height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=86)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def settings(revision: Revision) -> dict[str, Any]:
    """The flat parameters of a revision, as far as they can be read.

    What a stage ran with, by dvc.lock, takes precedence over params.yaml, which may have changed.
    """
    flat = files.flatten(_group(read_yaml(revision.read("params.yaml"))))
    lock = read_yaml(revision.read("dvc.lock"))
    for stage in reversed(STAGES):  # where two differ, the earlier one ran last
        flat |= files.flatten(_group(lock, "stages", stage, "params", "params.yaml"))
    return flat


def _group(values: Any, *keys: str) -> Mapping[str, Any]:
    """The group below these keys; {} if there is none."""
    group = value_at(values, *keys)
    return group if isinstance(group, Mapping) else {}


def _names(revisions: Sequence[Revision]) -> Iterator[str]:
    """Names to show: of several commits that hold the same, the newest and how many more."""
    yield from (revision.name for revision in revisions if revision.kind != "commit")
    commits = [revision.name for revision in revisions if revision.kind == "commit"]
    if commits:
        yield commits[0] if len(commits) == 1 else f"{commits[0]} and {len(commits) - 1} older"


def _samples(revisions: Sequence[Revision]) -> str:
    """The grid of samples, from the working folder or from DVC's cache."""
    path = IMAGES / "samples.png"
    if any(revision.kind == "folder" for revision in revisions):
        return data_uri(path, _SAMPLES_WIDTH)
    import dvc.api  # takes a second

    for revision in revisions:
        try:
            tree = dvc.api.DVCFileSystem(rev=revision.commit)
            return encode(tree.read_bytes(path.as_posix()), _SAMPLES_WIDTH)
        except Exception:  # of many kinds: no DVC repository, not in the cache, an older layout
            continue
    return ""


def _step(name: str, count: Any, left_out: Mapping[str, Any] | None = None) -> FunnelStep | None:
    if not isinstance(count, int):
        return None
    reasons = {
        reason.replace("_", " "): number
        for reason, number in (left_out or {}).items()
        if isinstance(number, int) and number
    }
    return FunnelStep(name, count, reasons)


def _ok(figures: Mapping[str, Any], key: str) -> Any:
    return figures.get(key, {}).get("ok")


def _all_but_ok(figures: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {reason: count for reason, count in figures.get(key, {}).items() if reason != "ok"}
