"""The logged model and data set, as MLflow's own clients and server see them."""

import json
import os
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import settings
import tiny_training as tiny
from child_server import free_port, opened, served
from diffusers import DDPMPipeline
from mlflow import MlflowClient
from repository import Repository

from pttfaces import mlflow_model, mlflow_store, tracking
from pttfaces.config import Generate
from pttfaces.diffusion import model_folder
from pttfaces.errors import ParamsError
from pttfaces.provenance import Provenance
from pttfaces.sampling import samplers

DISTANCE = "random_feature_distance"
BEST = f"models:/{mlflow_model.REGISTERED}@best"
SOURCE = str(settings.PRESET.parent.parent / "src")
PROVENANCE = Provenance({"torch": "2.15.0", "uncommitted changes": "src/train.py"}, "+print()\n")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose store has a training of a tiny model and its evaluation."""
    folder = tmp_path_factory.mktemp("project")
    mask = os.umask(0o002)  # a group's
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        patch.chdir(folder)
        (folder / "params.yaml").write_bytes(settings.PRESET.read_bytes())
        model_folder.save_model(Path("best_model"), tiny.model(), {})
        for _ in range(2):  # a kill at the end repeats the last calls
            with tracking.training_run(settings.demo(), "d" * 64, Path("run")) as run:
                run.log_provenance(PROVENANCE)
                run.log_dataset("data/dataset", "d" * 64, "training", 22)
                run.log_model(Path("best_model"), "model-1", register=True)
                run.log_metrics({"best_val_loss": 0.5})
        with tracking.evaluation_run(settings.demo(), "model-1", Path("evaluation")) as run:
            run.log_dataset("data/dataset/train", "r" * 16, "evaluation")
            run.log_metrics({DISTANCE: 12.5})
            run.log_copy_warning(None)
            run.move_best(DISTANCE, ())
        os.umask(mask)
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_store.store_uri())
        yield folder


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_model_and_store_made_under_a_group_s_umask_are_the_group_s_to_read_and_write(
    project: Path,
) -> None:
    """safetensors makes files that nobody else can read."""
    found = [project / "mlflow.db"]
    for folder in ("best_model", "mlruns", ".cache"):
        found += [project / folder, *(project / folder).rglob("*")]
    assert sum(path.suffix == ".safetensors" for path in found) == 2
    copied = project / "mlruns/models"  # of the code, as it is in the checkout
    for path in found:
        wanted = 0o040 if path.is_file() and path.is_relative_to(copied) else 0o060
        assert path.stat().st_mode & wanted == wanted, path


def test_pyfunc_of_the_best_model_samples_the_images_of_generate(project: Path) -> None:
    loaded = mlflow.pyfunc.load_model(BEST)
    found = loaded.predict(pd.DataFrame({"n": [2, 1], "seed": [5, 6], "steps": [3, 2]}))
    options = Generate(
        num_images=2,
        batch_size=2,
        sampler="dpmsolver++",
        timestep_spacing="trailing",
        precision="fp32",
    )
    expected = [
        samplers.sample(tiny.model(), options, steps, seed, range(count))
        for count, seed, steps in ((2, 5, 3), (1, 6, 2))
    ]
    assert np.abs(found.astype(int) - np.concatenate(expected)).max() <= 1
    ddpm = loaded.predict({"n": [1], "seed": [5], "steps": [3]}, params={"sampler": "ddpm"})
    assert ddpm.shape == (1, 16, 16, 3)


def test_model_info_has_signature_example_and_requirements(project: Path) -> None:
    info = mlflow.models.get_model_info(BEST)
    assert info.signature.inputs.input_names() == ["n", "seed", "steps"]
    assert info.signature.outputs.inputs[0].shape == (-1, -1, -1, 3)
    example = mlflow.pyfunc.load_model(BEST).input_example
    assert example.to_dict("list") == {"n": [1], "seed": [0], "steps": [1]}
    lines = Path(mlflow.pyfunc.get_model_dependencies(BEST)).read_text(encoding="utf-8")
    assert {line.partition("==")[0] for line in lines.split()} >= {"torch", "diffusers"}


def test_model_is_stored_once_and_diffusers_opens_it(project: Path) -> None:
    assert len(list((project / "mlruns").rglob("*.safetensors"))) == 1
    client = MlflowClient(mlflow_store.store_uri())
    (version,) = client.search_model_versions(f"name = '{mlflow_model.REGISTERED}'")
    (model,) = mlflow_model.all_models(client)
    assert version.source == model.artifact_location
    DDPMPipeline.from_pretrained(mlflow.artifacts.download_artifacts(BEST))
    run = mlflow.artifacts.download_artifacts(
        run_id=version.run_id, artifact_path="model", dst_path=str(project / "downloaded")
    )
    DDPMPipeline.from_pretrained(run)


def test_runs_fill_the_columns_dataset_and_models(project: Path) -> None:
    evaluation, training = mlflow_store.all_runs()
    client = MlflowClient(mlflow_store.store_uri())
    (model,) = mlflow_model.all_models(client)
    assert [each.model_id for each in training.outputs.model_outputs] == [model.model_id]
    scored = client.get_run(evaluation.info.run_id).inputs  # of which a search shows data sets only
    assert [each.model_id for each in scored.model_inputs] == [model.model_id]
    for run, name, digest in (
        (training, "data/dataset", "d" * 32),
        (evaluation, "data/dataset/train", "r" * 16),
    ):
        (used,) = run.inputs.dataset_inputs
        assert (used.dataset.name, used.dataset.digest) == (name, digest)
    scores = {
        metric.key: metric.value for metric in client.get_logged_model(model.model_id).metrics
    }
    assert scores == {"best_val_loss": 0.5, DISTANCE: 12.5}


def test_runs_have_provenance_and_names_that_tell_them_apart(project: Path) -> None:
    evaluation, training = mlflow_store.all_runs()
    assert training.data.tags["torch"] == "2.15.0"
    assert training.data.tags["uncommitted_changes"] == "src/train.py"
    text = mlflow.artifacts.load_text(f"{training.info.artifact_uri}/{tracking.UNCOMMITTED}")
    assert text == PROVENANCE.diff
    assert training.info.run_name.startswith("train: cosine, v_prediction, 25 epochs, seed 0 (")
    assert evaluation.info.run_name.startswith("evaluate: 20 steps, dpmsolver++, seed 0 (")
    changed = settings.params(train=settings.group("train", learning_rate=0.5))
    with tracking.training_run(changed, "d" * 64, Path("other")) as run:
        pass
    name = MlflowClient(mlflow_store.store_uri()).get_run(run.id).info.run_name
    assert name != training.info.run_name


def test_pttfaces_ui_opens_the_project_s_experiment_whatever_its_number(
    tmp_path: Path, project: Path
) -> None:
    """In a store that others began."""
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    for name in ("somebody's", "somebody else's"):
        client.create_experiment(name)
    (tmp_path / "dvc.yaml").touch()
    port = free_port()
    command = ["pttfaces", "ui", "--port", str(port)]
    with socket.create_server(("127.0.0.1", port)), pytest.raises(ParamsError) as taken:
        Repository(tmp_path).pttfaces(*command[1:])
    assert str(taken.value) == f"port {port} is in use; choose another: make ui PORT=5001."
    with served(command, tmp_path, PYTHONPATH=SOURCE) as server:
        path = "/ajax-api/2.0/mlflow/experiments/get?experiment_id=3"
        with opened(server, f"http://127.0.0.1:{port}{path}") as answer:
            assert json.load(answer)["experiment"]["name"] == mlflow_store.EXPERIMENT
    said = (tmp_path / "server.log").read_text(encoding="utf-8")
    assert f"Open http://127.0.0.1:{port}/#/experiments/3/runs" in said


def test_mlflow_models_serve_answers_with_images(project: Path) -> None:
    port = free_port()
    command = f"mlflow models serve --model-uri {BEST} --env-manager local --port {port}".split()
    example = {"dataframe_split": {"columns": ["n", "seed", "steps"], "data": [[2, 0, 1]]}}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps(example).encode(),
        {"Content-Type": "application/json"},
    )
    store = {"MLFLOW_TRACKING_URI": mlflow_store.store_uri(), "PYTHONPATH": ""}
    with served(command, project, **store) as server, opened(server, request) as answer:
        assert np.array(json.load(answer)["predictions"]).shape == (2, 16, 16, 3)
