"""What was found, in words for a person: what goes, what it was used for, where it came from."""

from collections.abc import Iterator, Mapping
from typing import Any

from pttfaces.erasure import mlflow_runs as histories
from pttfaces.erasure.findings import Findings
from pttfaces.erasure.provenance import STEM, Lineage, Origin
from pttfaces.errors import DataError

REPRO = "next: dvc repro, after which they are in no data set and no model trained from then on"
THEN_PURGE = (
    "their bytes are deleted by: pttfaces forget --purge",
    "or, after dvc repro and with all but the present data and models, by DVC's own:",
    "    dvc gc --workspace                           in its cache",
    "    dvc gc --workspace --cloud --remote NAME     in a remote",
)
_MEASURES = ("blur", "face_px", "upscale", "brightness", "yaw", "pitch", "roll", "score")


def what_goes(found: Findings) -> Iterator[str]:
    """Pictures, crops and rows of the data set that will be gone."""
    in_set = [row for row in found.crops.values() if row.get("split")]
    yield (
        f"forget: {len(found.articles)} articles, {len(found.digests)} pictures, "
        f"{len(found.crops)} crops, {len(in_set)} of them in the data set"
    )
    fetched = {(origin.article, origin.url) for origin in found.origins if origin.sha256}
    for origin in found.origins:
        if not origin.sha256 and (origin.article, origin.url) in fetched:
            continue  # a table from before it was fetched
        yield f"  picture {origin.sha256[:STEM] or '(not fetched)'}  {_place(origin)}"
    for name, row in found.crops.items():
        yield f"  crop {name}  {_fate(row)}"
    if found.look_alikes:
        yield "these crops look the same, and stay; to forget one, too: --crop NAME"
        yield from (
            f"  crop {name}  {_fate(found.lineage.crop(name))}" for name in found.look_alikes
        )


def what_was_trained(found: Findings) -> Iterator[str]:
    """Models that have seen the pictures, with the commands that delete them."""
    models = found.models
    if models.away:
        yield f"MLflow cannot be read ({models.away}); run this again when it can."
    if models.runs:
        yield "MLflow runs whose model was trained on them, and evaluations of it:"
        yield from (f"  {run.id}  {run.stage}  {run.name}" for run in models.runs)
        yield "  to delete them with their models:"
        yield from (f"    {command}" for command in histories.run_deletions(models.runs))
    for version in models.history.registered(models.runs):
        yield f"registered model {version.model}, version {version.version}; to delete it:"
        yield f"    {histories.deletion(version)}"
    if models.unchecked:
        yield "MLflow runs that cannot be checked, for neither data set nor a list of it is there:"
        yield from (f"  {run.id}  {run.stage}  {run.name}" for run in models.unchecked)
    if models.untold:
        yield "experiments and commits that cannot be checked, for neither DVC nor MLflow has what"
        yield "their models were trained on (`dvc pull -A` may bring it):"
        yield f"  {' '.join(models.untold)}"
    if models.experiments:
        yield "DVC experiments whose model was trained on them; to remove them:"
        yield f"    dvc exp remove {' '.join(models.experiments)}"
    if models.commits:
        short = " ".join(commit[:8] for commit in models.commits)
        yield f"commits whose model was trained on them: {short}"
    known = (models.runs, models.experiments, models.commits, models.unchecked, models.untold)
    if not any(known):
        yield "no model that is kept was trained on them"


def what_is_kept(found: Findings) -> Iterator[str]:
    """Where bytes of the pictures lie besides the working folder's stages."""
    yield "kept of them, and of what shows them:"
    for store in (found.storage.cache, *found.storage.remotes):
        yield f"  {len(store.ids & found.objects.all())} objects in {store.name}"
    yield f"  {len(found.paths())} files and folders here, outside of DVC's cache"
    for path in found.given():
        yield f"    {path.as_posix()} among them, which only you or --purge will delete"
    shown, away = found.pictures_in_history()
    yield f"  {len(shown)} artifacts of MLflow that may show them"
    for name, reason in away.items():
        yield f"  the {name} cannot be read: {reason}"
    for name, reason in found.storage.unreachable.items():
        yield f"  the remote {name} cannot be reached: {reason}"


def trace(lineage: Lineage, name: str) -> Iterator[str]:
    """From a crop, by its file name, or a picture, by its digest, to the articles.

    DataError: nothing is known of it.
    """
    row = lineage.crop(name) or {}
    origins = lineage.origins_of(str(row.get("sha256") or name[:STEM]))
    if not origins:
        raise DataError(
            f"{name} is in no data/ledger.csv of this project; name a crop of data/crops or "
            "data/dataset, or a picture of data/raw. What a model has made comes from no article."
        )
    if row:
        yield f"crop     {name}, face {row.get('face', '')}: {_fate(row)}"
        measured = (f"{key} {row[key]}" for key in _MEASURES if row.get(key))
        yield f"measures {', '.join(measured)}"
    picture = origins[0]
    yield f"picture  {picture.sha256}" + (f", data/raw/{picture.path}" if picture.path else "")
    for origin in origins:
        yield f"from     {_place(origin)}"
        if origin.title:
            yield f"         {origin.date} {origin.title}"
        if origin.posted and origin.posted != origin.url:
            yield f"         posted as {origin.posted}"


def _place(origin: Origin) -> str:
    if not origin.article:
        return origin.url
    by = f" by {origin.author}" if origin.author else ""
    push = f", in a push of {origin.poster}" if origin.place == "push" else ""
    return f"{origin.article}{by}{push}  {origin.url}"


def _fate(row: Mapping[str, Any] | None) -> str:
    if not row or "reason" not in row:
        return "not in data/dataset.csv"
    if row["split"]:
        return f"in data/dataset/{row['split']}"
    twin = f" of {row['duplicate_of']}" if row.get("duplicate_of") else ""
    return f"left out: {row['reason']}{twin}"
