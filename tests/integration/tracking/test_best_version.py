"""What evaluations do to the registry: the alias `best`, and warnings of copies on versions."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pttfaces import config, mlflow_model, mlflow_store, tracking

DEMO = config.load("presets/demo.yaml")
PRESET = Path("presets/demo.yaml").resolve()
DISTANCE = "random_feature_distance"
WARNING = "COPIES: 80 %"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
    """A store in which the models a, b and c are registered."""
    place = tmp_path_factory.mktemp("store")
    (place / "params.yaml").write_bytes(PRESET.read_bytes())
    (place / "model").mkdir()
    (place / "model" / "weights").write_text("weights")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        patch.chdir(place)
        register(*"abc")
        yield MlflowClient(mlflow_store.store_uri())


def register(*models: str) -> None:
    """Each as the next version, by a training of its own."""
    for model in models:
        run_file = Path(f"training-of-{model}")
        with tracking.training_run(DEMO, "data", run_file) as run:
            run.log_model(Path("model"), model, register=True)
        run_file.unlink()  # the next training of that model is another one


def evaluate(model: str, distance: float, generated: str, warning: str | None = None) -> str:
    """Returns the run's id."""
    run_file = Path(f"run-of-{model}-{generated}-{distance}")
    with tracking.evaluation_run(DEMO, model, run_file) as run:
        run.log_metrics({DISTANCE: distance})
        run.log_tags({"reference_digest": "r", "generated": generated})
        run.log_copy_warning(warning)
        run.move_best(DISTANCE, ("reference_digest", "generated"))
    return run.id


def best(client: MlflowClient) -> str | None:
    """The model that the best version is."""
    held = client.get_registered_model(mlflow_model.REGISTERED).aliases.get("best")
    return held and client.get_model_version(mlflow_model.REGISTERED, held).tags["model_digest"]


def copies(client: MlflowClient, model: str) -> list[str | None]:
    """What the model's versions say, oldest first."""
    query = f"name = '{mlflow_model.REGISTERED}' and tags.model_digest = '{model}'"
    versions = sorted(client.search_model_versions(query), key=lambda one: int(one.version))
    return [version.tags.get("copies") for version in versions]


def test_move_best_takes_the_lowest_distance_among_equal_evaluations(
    client: MlflowClient,
) -> None:
    evaluate("b", 5.0, "128")
    assert best(client) == "b"
    evaluate("a", 4.0, "128")
    assert best(client) == "a"
    evaluate("c", 7.0, "128")
    assert best(client) == "a"
    evaluate("b", 3.0, "128")  # with another sampler, say
    assert best(client) == "b"
    # More samples have lower distances: nothing that these can be compared with came before.
    evaluate("c", 9.0, "10000")
    assert best(client) == "c"
    evaluate("nobody registered it", 0.1, "128")
    assert best(client) == "b"


def test_move_best_of_a_model_that_copies_marks_it_and_skips_it(client: MlflowClient) -> None:
    evaluate("b", 5.0, "64")
    run = evaluate("a", 0.1, "64", warning=WARNING)
    assert best(client) == "b"
    assert copies(client, "a") == [WARNING]
    assert copies(client, "b") == ["no warning"]
    assert client.get_run(run).data.tags["copies"] == WARNING
    evaluate("c", 6.0, "64")
    assert best(client) == "b"


def test_copy_warning_after_a_later_evaluation_without_one_stays(client: MlflowClient) -> None:
    """Deleting the evaluation takes it back."""
    register("d", "e")
    run = evaluate("d", 0.1, "32", warning=WARNING)
    evaluate("e", 5.0, "32")
    evaluate("d", 4.0, "32")  # by another sampler
    assert best(client) == "e"
    assert copies(client, "d") == [WARNING]
    evaluate("d", 3.0, "32", warning="COPIES: 90 %")
    assert copies(client, "d") == ["COPIES: 90 %"]
    # As an earlier version of this program left it.
    (version,) = client.search_model_versions("tags.model_digest = 'd'")
    client.set_model_version_tag(mlflow_model.REGISTERED, version.version, "copies", "no warning")
    evaluate("e", 6.0, "32")
    assert best(client) == "e"
    assert copies(client, "d") == ["COPIES: 90 %"]
    # Whoever deletes an evaluation takes its warning back.
    query = "tags.model_digest = 'd' and tags.copies != 'no warning'"
    for warned in client.search_runs(["1"], query):
        client.delete_run(warned.info.run_id)
    assert client.get_run(run).info.lifecycle_stage == "deleted"
    evaluate("e", 7.0, "32")
    assert best(client) == "d"
    assert copies(client, "d") == ["no warning"]


def test_move_best_when_the_best_version_is_found_to_copy_takes_the_next(
    client: MlflowClient,
) -> None:
    register("f", "g")
    evaluate("f", 1.0, "16")
    evaluate("g", 2.0, "16")
    assert best(client) == "f"
    evaluate("f", 0.5, "16", warning=WARNING)
    assert best(client) == "g"
    evaluate("f", 0.5, "17", warning=WARNING)  # nothing else had as many samples
    assert best(client) == "g"
    evaluate("g", 0.5, "17", warning=WARNING)
    assert best(client) is None
    evaluate("f", 0.4, "17", warning=WARNING)
    assert best(client) is None
    register("h")
    evaluate("h", 9.0, "17")
    assert best(client) == "h"


def test_log_model_of_a_model_that_copies_marks_its_new_version(
    client: MlflowClient,
) -> None:
    register("i", "j")
    evaluate("i", 1.0, "8", warning=WARNING)
    register("i", "k")
    assert copies(client, "i") == [WARNING, WARNING]
    assert copies(client, "k") == [None]
    evaluate("never registered before", 1.0, "8")
    register("never registered before")
    evaluate("j", 2.0, "8")
    assert best(client) == "never registered before"


def test_move_best_ignores_deleted_versions_and_evaluations_without_a_distance(
    client: MlflowClient,
) -> None:
    register("l", "m")
    evaluate("l", float("nan"), "4")
    assert best(client) != "l"
    evaluate("l", 1.0, "4")
    assert best(client) == "l"
    (version,) = client.search_model_versions("tags.model_digest = 'l'")
    client.delete_model_version(mlflow_model.REGISTERED, version.version)
    evaluate("m", 2.0, "4")
    assert best(client) == "m"
    (version,) = client.search_model_versions("tags.model_digest = 'm'")
    client.delete_model_version(mlflow_model.REGISTERED, version.version)
    evaluate("m", 2.5, "4")
    assert best(client) is None


def test_move_best_ignores_an_evaluation_that_ended_before_its_copy_check(
    client: MlflowClient,
) -> None:
    register("n", "o")
    evaluate("n", 9.0, "2")
    with tracking.evaluation_run(DEMO, "n", Path("run-that-is-killed")) as run:
        run.log_metrics({DISTANCE: 0.1})
        run.log_tags({"reference_digest": "r", "generated": "2"})
    evaluate("o", 5.0, "2")
    assert best(client) == "o"


def test_copy_warning_after_its_experiment_was_renamed_still_counts(client: MlflowClient) -> None:
    register("p", "q")
    evaluate("p", 0.1, "3", warning=WARNING)
    client.rename_experiment("1", "before the folder was moved")
    evaluate("q", 5.0, "3")
    evaluate("p", 0.2, "3")
    assert best(client) == "q"
    assert copies(client, "p") == [WARNING]
