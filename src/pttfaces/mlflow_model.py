"""Logs a model folder as an MLflow model, from which `mlflow.pyfunc.load_model` samples; registers
its versions and chooses the best.

It is stored once: the folder's files with MLflow's description beside them, so that diffusers opens
it, too.
"""

import contextlib
import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pttfaces import mlflow_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

REGISTERED = "pttfaces-ddpm"
NO_WARNING = "no warning"  # the tag `copies` of evaluations and versions
NAME = "model"  # also of the artifact under which the run offers it for download
_LIBRARIES = ("mlflow", "torch", "diffusers", "accelerate", "numpy")


def log(client: "MlflowClient", run_id: str, folder: Path, digest: str) -> str:
    """Logs the model folder as the output of a run; returns the id of MLflow's model.

    One that the run logged before a kill is kept if it is whole, and deleted if it is not.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    run = client.get_run(run_id)
    for earlier in _find(client, [run.info.experiment_id], f"source_run_id = '{run_id}'"):
        if earlier.status == LoggedModelStatus.READY:
            return str(earlier.model_id)
        client.delete_logged_model(earlier.model_id)
    model = client.create_logged_model(
        run.info.experiment_id,
        NAME,
        run_id,
        tags={"model_digest": digest},
        params=run.data.params,
        model_type="diffusion",
    )
    with tempfile.TemporaryDirectory() as scratch:
        description = Path(scratch, NAME)
        _describe(description, model)
        client.log_model_artifacts(model.model_id, str(description))
    client.log_model_artifacts(model.model_id, str(folder))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return str(model.model_id)


def register(client: "MlflowClient", run_id: str, model_id: str, digest: str) -> None:
    """Makes the run's model the newest version, if it is none yet."""
    from mlflow.exceptions import MlflowException

    with contextlib.suppress(MlflowException):  # it exists
        client.create_registered_model(REGISTERED)
    if client.search_model_versions(f"run_id = '{run_id}'"):
        return  # registered before a kill
    tags = {"model_digest": digest}
    # By its place: MLflow would look an address models:/… up in the store of the environment.
    source = client.get_logged_model(model_id).artifact_location
    client.create_model_version(REGISTERED, source, run_id, tags, model_id=model_id)
    mark_copies(client)  # the same model may be known


def mark_copies(client: "MlflowClient") -> dict[str, str]:
    """Sets the tag `copies` of all versions; returns the newest clean version of each model digest.

    The tag is the newest warning of the model's evaluations, or "no warning" if none warns: another
    sampler that copies less removes no warning. Deleted evaluations do not count.
    """
    copies: dict[str, str] = {}
    for run in mlflow_store.search(client, "tags.stage = 'evaluate'"):
        digest, found = run.data.tags["model_digest"], run.data.tags.get("copies")
        if found and copies.get(digest, NO_WARNING) == NO_WARNING:
            copies[digest] = found
    versions = client.search_model_versions(f"name = '{REGISTERED}'")
    for one in versions:
        tag = copies.get(one.tags.get("model_digest", ""))
        if tag and one.tags.get("copies") != tag:
            client.set_model_version_tag(REGISTERED, one.version, "copies", tag)
    oldest_first = sorted(versions, key=lambda one: int(one.version))
    newest = {one.tags.get("model_digest", ""): one.version for one in oldest_first}
    return {digest: newest[digest] for digest in newest if copies.get(digest) == NO_WARNING}


def move_best(
    client: "MlflowClient", run_id: str, distance: str, comparable: Sequence[str]
) -> None:
    """Gives the alias `best` to the version whose metric `distance` is the lowest.

    Only versions whose evaluations equal that of run_id in the tags `comparable` count; models with
    an evaluation that warns are left out, since copies lower the distance. If none is left, a
    version with a warning loses the alias.
    """
    clean, run = mark_copies(client), client.get_run(run_id)
    tags = {"stage": "evaluate", "copies": NO_WARNING}
    tags |= {key: run.data.tags[key] for key in comparable}
    query = " and ".join(f"tags.{key} = '{value}'" for key, value in tags.items())
    order = [f"metrics.{distance} ASC"]
    for other in client.search_runs([run.info.experiment_id], query, order_by=order):
        if distance in other.data.metrics and other.data.tags["model_digest"] in clean:
            version = clean[other.data.tags["model_digest"]]
            client.set_registered_model_alias(REGISTERED, "best", version)
            return
    for model in client.search_registered_models(f"name = '{REGISTERED}'"):
        best = model.aliases.get("best")
        copies = client.get_model_version(REGISTERED, best).tags.get("copies") if best else None
        if copies not in (None, NO_WARNING):
            client.delete_registered_model_alias(REGISTERED, "best")


def all_models(client: "MlflowClient") -> "list[LoggedModel]":
    """All models of the project's experiments that are not deleted."""
    ids = [experiment.experiment_id for experiment in mlflow_store.experiments(client)]
    return list(_find(client, ids, f"name = '{NAME}'"))


def _find(client: "MlflowClient", experiments: list[str], query: str) -> "Iterator[LoggedModel]":
    token = None
    while True:
        page = client.search_logged_models(experiments, query, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _describe(folder: Path, model: "LoggedModel") -> None:
    """Writes MLflow's description of the model: its loader, signature, example and libraries."""
    import mlflow.pyfunc
    import numpy as np
    import pandas as pd
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    loader = importlib.util.find_spec("pttfaces.diffusion.plain_diffusers")
    assert loader is not None  # not imported: torch takes seconds
    example: Any = pd.DataFrame({"n": [1], "seed": [0], "steps": [1]})
    mlflow.pyfunc.save_model(
        str(folder),
        loader_module=loader.name.rpartition(".")[2],
        code_paths=[str(loader.origin)],
        mlflow_model=Model(
            artifact_path=model.artifact_location,
            run_id=model.source_run_id,
            model_uuid=model.model_id,
            model_id=model.model_id,
        ),
        signature=ModelSignature(
            inputs=Schema([ColSpec(DataType.long, column) for column in example]),
            outputs=Schema([TensorSpec(np.dtype("uint8"), (-1, -1, -1, 3))]),  # (N, H, W, 3)
            params=ParamSchema(
                [
                    ParamSpec("sampler", DataType.string, "dpmsolver++"),
                    ParamSpec("spacing", DataType.string, "trailing"),
                ]
            ),
        ),
        input_example=example,
        pip_requirements=[f"{name}=={version(name)}" for name in _LIBRARIES],
    )
