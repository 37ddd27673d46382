"""Logs a model folder as an MLflow model, from which `mlflow.pyfunc.load_model` samples.

It is stored once: the folder's files with MLflow's description beside them, so that diffusers opens
it, too.
"""

import importlib.util
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pttfaces import mlflow_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

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
