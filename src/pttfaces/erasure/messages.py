"""Describes to a person what is to be forgotten, where it is stored and where it came from."""

from collections.abc import Iterator, Mapping
from typing import Any

from pttfaces.erasure.findings import Findings
from pttfaces.erasure.models import sheets
from pttfaces.erasure.provenance import ID_LENGTH, Origin, ProvenanceTables
from pttfaces.errors import DataError

REPRO = (
    "next: run dvc repro; after that they are in no data set and in no model trained from then on"
)
THEN_PURGE = (
    "to delete the stored files: pttfaces forget --purge",
    "or, after dvc repro, with DVC itself, which deletes every version but the current one:",
    "    dvc gc --workspace                           in its cache",
    "    dvc gc --workspace --cloud --remote NAME     in a remote",
)
_STORE = "--backend-store-uri sqlite:///mlflow.db --tracking-uri sqlite:///mlflow.db"
_MEASURES = ("sharpness", "face_px", "upscale", "brightness", "yaw", "pitch", "roll", "score")


def images(found: Findings) -> Iterator[str]:
    """The images, crops and rows of the data set to be forgotten."""
    in_dataset = [row for row in found.crops.values() if row.get("split")]
    yield (
        f"forget: {len(found.articles)} articles, {len(found.digests)} images, "
        f"{len(found.crops)} crops, {len(in_dataset)} of them in the data set"
    )
    fetched = {(origin.article, origin.url) for origin in found.origins if origin.sha256}
    for origin in found.origins:
        if not origin.sha256 and (origin.article, origin.url) in fetched:
            continue  # from a table written before it was fetched
        yield f"  image {origin.sha256[:ID_LENGTH] or '(not fetched)'}  {_describe_origin(origin)}"
    for name, row in found.crops.items():
        yield f"  crop {name}  {_describe_crop(row)}"
    if alike := found.look_alikes():
        yield "these crops look the same but are kept; to forget one as well, add --crop NAME"
        for name in alike:
            yield f"  crop {name}  {_describe_crop(found.tables.crop(name))}"


def models(found: Findings) -> Iterator[str]:
    """The models that have seen the images, with the commands that delete them."""
    models = found.models
    if models.mlflow_error:
        yield f"MLflow cannot be read ({models.mlflow_error}); run this again when it can."
    if models.runs:
        yield "MLflow runs whose model was trained on them, and evaluations of it:"
        yield from (f"  {run.id}  {run.stage}  {run.name}" for run in models.runs)
        yield "  to delete them with their models:"
        yield from (f"    mlflow runs delete --run-id {run.id}" for run in models.runs)
        yield f"    mlflow gc {_STORE} --run-ids {','.join(run.id for run in models.runs)}"
    for name, number in models.versions:
        yield f"registered model {name}, version {number}; to delete it:"
        call = f"MlflowClient().delete_model_version('{name}', '{number}')"
        yield f'    python -c "from mlflow import MlflowClient; {call}"'
    if models.unchecked_runs:
        yield (
            "MLflow runs that cannot be checked, because neither their data set nor its list of "
            "images is left:"
        )
        yield from (f"  {run.id}  {run.stage}  {run.name}" for run in models.unchecked_runs)
    if models.unchecked_revisions:
        yield "experiments and commits that cannot be checked, since neither DVC nor MLflow has the"
        yield "list of their training images (`dvc pull -A` may fetch it):"
        yield f"  {' '.join(models.unchecked_revisions)}"
    if models.experiments:
        yield "DVC experiments whose model was trained on them; to remove them:"
        yield f"    dvc exp remove {' '.join(models.experiments)}"
    if models.commits:
        short = " ".join(commit[:8] for commit in models.commits)
        yield f"commits whose model was trained on them: {short}"
    known = (models.runs, models.experiments, models.commits)
    if not any((*known, models.unchecked_runs, models.unchecked_revisions)):
        yield "no stored model was trained on them"


def stored(found: Findings) -> Iterator[str]:
    """What is stored of the images, by store."""
    yield "stored files that hold or show them:"
    for store in found.store.stores:
        yield f"  {len(store.ids & found.replacements.keys())} objects in {store.name}"
    yield f"  {len(found.paths())} files and folders here, outside of DVC's cache"
    for path in found.input_files():
        yield f"    including {path.as_posix()}, which only you or --purge will delete"
    count, unreadable = sheets(found.models.suspected)
    yield f"  {count} artifacts of MLflow that may show them"
    for run_id, reason in unreadable.items():
        yield f"  the MLflow run {run_id} cannot be read: {reason}"
    for name, reason in found.store.unreachable.items():
        yield f"  the remote {name} cannot be reached: {reason}"


def trace(provenance: ProvenanceTables, name: str) -> Iterator[str]:
    """From a crop, by its file name, or an image, by its SHA-256, to the articles.

    DataError: no table has it.
    """
    row = provenance.crop(name)
    origins = provenance.origins_of(str(row.get("sha256") or name[:ID_LENGTH]))
    if not origins:
        raise DataError(
            f"{name} is in no data/ledger.csv of this project; name a crop of data/crops or "
            "data/dataset, or an image of data/raw. Generated images come from no article."
        )
    if row:
        yield f"crop     {name}, face {row.get('face', '')}: {_describe_crop(row)}"
        measures = (f"{key} {row[key]}" for key in _MEASURES if row.get(key))
        yield f"measures {', '.join(measures)}"
    image = origins[0]
    yield f"image    {image.sha256}" + (f", data/raw/{image.path}" if image.path else "")
    for origin in origins:
        yield f"from     {_describe_origin(origin)}"
        if origin.title:
            yield f"         {origin.date} {origin.title}"
        if origin.posted and origin.posted != origin.url:
            yield f"         posted as {origin.posted}"


def _describe_origin(origin: Origin) -> str:
    if not origin.article:
        return origin.url
    by = f" by {origin.author}" if origin.author else ""
    push = f", in a push of {origin.poster}" if origin.place == "push" else ""
    return f"{origin.article}{by}{push}  {origin.url}"


def _describe_crop(row: Mapping[str, Any]) -> str:
    if not row.keys() >= {"reason", "split"}:
        return "not in data/dataset.csv"
    if row["split"]:
        return f"in data/dataset/{row['split']}"
    twin = f" of {row['duplicate_of']}" if row.get("duplicate_of") else ""
    return f"left out: {row['reason']}{twin}"
