"""Describes to a person what is to be forgotten, where it is stored and where it came from."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pttfaces.erasure.findings import Findings
from pttfaces.erasure.models import sheets
from pttfaces.erasure.provenance import ID_LENGTH, MEASURES, Provenance
from pttfaces.errors import DataError, counted

if TYPE_CHECKING:
    from mlflow.entities import Run

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


def images(found: Findings) -> Iterator[str]:
    """The images, crops and rows of the data set to be forgotten."""
    in_dataset = [row for row in found.crops.values() if row["split"]]
    yield (
        f"forget: {counted(len(found.articles), 'article')}, "
        f"{counted(len(found.digests), 'image')}, {counted(len(found.crops), 'crop')}, "
        f"{len(in_dataset)} of them in the data set"
    )
    for origin in found.origins:
        yield f"  image {origin.sha256[:ID_LENGTH] or '(not fetched)'}  {_describe_origin(origin)}"
    for name, row in found.crops.items():
        yield f"  crop {name}  {_describe_crop(row)}"
    if alike := found.look_alikes():
        yield "these crops look the same; to forget one as well, add --crop NAME"
        for name in alike:
            yield f"  crop {name}  {_describe_crop(found.provenance.crops[name])}"


def models(found: Findings) -> Iterator[str]:
    """The models that have seen the images, with the commands that delete them."""
    known, saw = found.models, found.models.saw
    runs = [run for run in known.runs.values() if saw.get(run.data.tags["model_digest"])]
    revisions = [each for each in known.revisions if saw.get(each.train["model_digest"])]
    if known.mlflow_error:
        yield f"MLflow cannot be read ({known.mlflow_error}); run this again when it can."
    logged = [model for model in known.logged if saw.get(model.tags.get("model_digest", ""))]
    if runs or logged:
        ids = [run.info.run_id for run in runs]
        models = [model.model_id for model in logged]
        yield "MLflow runs whose models were trained on them, and those models' evaluations:"
        yield from map(_describe_run, runs)
        yield from (f"  {model}  model" for model in models)
        yield "  to delete them with their models:"
        yield from (f"    mlflow runs delete --run-id {run_id}" for run_id in ids)
        yield from (_python(f"delete_logged_model('{model}')") for model in models)
        given = {"--run-ids": ids, "--logged-model-ids": models}
        words = (f"{option} {','.join(each)}" for option, each in given.items() if each)
        yield f"    mlflow gc {_STORE} {' '.join(words)}"
        for version in known.versions:
            if version.run_id in ids:
                yield f"registered model {version.name}, version {version.version}; to delete it:"
                yield _python(f"delete_model_version('{version.name}', '{version.version}')")
    others = [run for run in known.runs.values() if run.data.tags["model_digest"] not in saw]
    unchecked_runs = [run for run in others if run.data.tags.get("stage") == "train"]
    run_ids = {run.info.run_id for run in known.runs.values()}
    unknown = [
        model.model_id
        for model in known.logged
        if model.tags.get("model_digest") not in saw and model.source_run_id not in run_ids
    ]
    if unknown:
        yield f"MLflow models that cannot be checked, since their run is gone: {' '.join(unknown)}"
    if unchecked_runs:
        yield (
            "MLflow runs that cannot be checked, because neither their data set nor its list of "
            "images is left:"
        )
        yield from map(_describe_run, unchecked_runs)
    unchecked = [each.name for each in known.revisions if each.train["model_digest"] not in saw]
    if unchecked:
        yield "experiments and commits that cannot be checked, since neither DVC nor MLflow has the"
        yield "list of their training images (`dvc pull -A` may fetch it):"
        yield f"  {' '.join(unchecked)}"
    if experiments := [each.name for each in revisions if each.kind == "experiment"]:
        yield "DVC experiments whose model was trained on them; to remove them:"
        yield f"    dvc exp remove {' '.join(experiments)}"
    if commits := [each.commit[:8] for each in revisions if each.kind == "commit"]:
        yield f"commits whose model was trained on them: {' '.join(commits)}"
    if any(each.kind == "folder" for each in revisions):
        yield "the model in this folder was trained on them; dvc repro trains another"
    found_any = runs or logged or unknown or unchecked_runs or unchecked or revisions
    if not (found_any or known.mlflow_error):
        yield "no stored model was trained on them"


def stored(found: Findings) -> Iterator[str]:
    """What is stored of the images, by store."""
    yield "stored files that hold or show them:"
    for store in found.store.stores:
        yield f"  {len(store.ids & found.replacements.keys())} objects in {store.name}"
    yield f"  {len(found.paths())} files and folders here, outside of DVC's cache"
    for path in found.input_files():
        yield f"    including {path.as_posix()}, which only you or --purge will delete"
    count, unreadable = sheets(found.models)
    yield f"  {count} artifacts of MLflow that may show them"
    for run_id, reason in unreadable.items():
        yield f"  the MLflow run {run_id} cannot be read: {reason}"
    for name, reason in found.store.unreachable.items():
        yield f"  the remote {name} cannot be reached: {reason}"


def trace(provenance: Provenance, name: str) -> Iterator[str]:
    """From a crop, by its file name, or an image, by its SHA-256, to the articles.

    DataError: no table has it.
    """
    origins = provenance.origins_of({name[:ID_LENGTH]})
    if not origins:
        raise DataError(
            f"{name} is in no data/ledger.csv of this project; name a crop of data/crops or "
            "data/dataset, or an image of data/raw. Generated images come from no article."
        )
    if row := provenance.crops.get(name):
        yield f"crop     {name}, face {row['face']}: {_describe_crop(row)}"
        measures = (f"{key} {row[key]}" for key in MEASURES if row[key])
        yield f"measures {', '.join(measures)}"
    image = origins[0]
    yield f"image    {image.sha256}" + (f", data/raw/{image.path}" if image.path else "")
    for origin in origins:
        yield f"from     {_describe_origin(origin)}"
        if origin.title:
            # Tables of version 0.2 have no board.
            yield f"         {' '.join(filter(None, (origin.board, origin.date, origin.title)))}"
        if origin.posted and origin.posted != origin.url:
            yield f"         posted as {origin.posted}"


def _python(call: str) -> str:
    """A command line that calls a method of MLflow's client."""
    return f'    python -c "from mlflow import MlflowClient; MlflowClient().{call}"'


def _describe_run(run: "Run") -> str:
    return f"  {run.info.run_id}  {run.data.tags.get('stage', '')}  {run.info.run_name or ''}"


def _describe_origin(origin: Any) -> str:
    if not origin.article:
        return origin.url
    by = f" by {origin.author}" if origin.author else ""
    push = f", in a push of {origin.poster}" if origin.place == "push" else ""
    return f"{origin.article}{by}{push}  {origin.url}"


def _describe_crop(row: Mapping[str, Any]) -> str:
    if row["split"]:
        return f"in data/dataset/{row['split']}"
    twin = f" of {row['duplicate_of']}" if row["duplicate_of"] else ""
    return f"left out: {row['reason']}{twin}" if row["reason"] else "not in data/dataset.csv"
