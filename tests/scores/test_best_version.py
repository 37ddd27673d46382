"""What evaluations do to the registry: the alias `best`, and warnings of copies on versions."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pttfaces import params, tracking

DEMO = params.load("presets/demo.yaml")
PRESET = Path("presets/demo.yaml").resolve()
DISTANCE = "random_feature_distance"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
    """A store in which the models a, b and c are registered as versions 1, 2 and 3."""
    place = tmp_path_factory.mktemp("store")
    (place / "params.yaml").write_bytes(PRESET.read_bytes())
    (place / "model").mkdir()
    (place / "model" / "weights").write_text("weights")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        patch.chdir(place)
        for model in "abc":
            with tracking.training_run(DEMO, "data", place / f"run-{model}") as run:
                run.log_model(place / "model", model, register=True)
        yield MlflowClient(tracking.store_uri())


def evaluate(model: str, distance: float, generated: str, warning: str | None = None) -> None:
    run_file = Path(f"run-of-{model}-{generated}-{distance}")
    with tracking.evaluation_run(DEMO, model, run_file) as run:
        run.log_metrics({DISTANCE: distance})
        run.log_tags({"reference_digest": "r", "generated": generated})
        run.log_verdict(warning)
        run.move_best(DISTANCE, ("reference_digest", "generated"))


def best(client: MlflowClient) -> str:
    return str(client.get_model_version_by_alias(tracking.MODEL, "best").version)


def test_the_lowest_distance_is_the_best_but_only_among_equal_evaluations(
    client: MlflowClient,
) -> None:
    evaluate("b", 5.0, "128")
    assert best(client) == "2"
    evaluate("a", 4.0, "128")
    assert best(client) == "1"
    evaluate("c", 7.0, "128")
    assert best(client) == "1"
    evaluate("b", 3.0, "128")  # with another sampler, say
    assert best(client) == "2"
    # More samples have lower distances: nothing that these can be compared with came before.
    evaluate("c", 9.0, "10000")
    assert best(client) == "3"
    evaluate("nobody registered it", 0.1, "128")
    assert best(client) == "2"


def test_a_model_that_copies_is_marked_and_not_the_best(client: MlflowClient) -> None:
    evaluate("b", 5.0, "64")
    evaluate("a", 0.1, "64", warning="COPIES: 80 %")
    assert best(client) == "2"
    assert client.get_model_version(tracking.MODEL, "1").tags["copies"] == "COPIES: 80 %"
    assert client.get_model_version(tracking.MODEL, "2").tags["copies"] == "no warning"
    [run] = [
        run
        for run in client.search_runs(["1"], "tags.stage = 'evaluate'")
        if (run.data.tags["model_digest"], run.data.tags["generated"]) == ("a", "64")
    ]
    assert run.data.tags["copies"] == "COPIES: 80 %"
    evaluate("c", 6.0, "64")
    assert best(client) == "2"
