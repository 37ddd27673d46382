"""The whole line in a real git + DVC repository in a temporary folder, made small.

One repository is made and run once (conftest.py); the tests look at what it left, then run it
again.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from PIL import Image
from repository import SMALL, STAGES, Repository, copy_project, make_repository, put, ran
from torture.funnel import check_funnel

from pttfaces import files
from pttfaces.download.result import EMPTY, PAGE, RETRYABLE

# The fixture runs nine stages; a busy machine must not make it fail.
pytestmark = pytest.mark.timeout(1200)


def runs(repository: Repository, stage: str) -> list[Any]:
    client = MlflowClient(f"sqlite:///{(repository.path / 'mlflow.db').as_posix()}")
    experiment = client.get_experiment_by_name("pttfaces")
    assert experiment is not None
    return client.search_runs([experiment.experiment_id], f"tags.stage = '{stage}'")


def test_pipeline_leaves_the_files_and_metrics_of_every_stage(line: Repository) -> None:
    for stage in STAGES:
        assert line.metrics(stage)["seconds"] > 0
    funnel = [
        line.metrics("crawl")["kept"],
        len((line.path / "data/links.jsonl").read_text(encoding="utf-8").splitlines()),
        len(list((line.path / "data/raw").rglob("*.*"))),
        len(list((line.path / "data/crops").glob("*.png"))),
        len(list((line.path / "data/dataset/train").glob("*.png"))),
    ]
    assert funnel[0] == 4
    assert all(count > 0 for count in funnel)
    assert len(list((line.path / "data/generated").glob("*.png"))) == 6
    assert (line.path / "data/generated.zip").stat().st_size > 0
    with Image.open(line.path / "data/generated/000000.png") as image:
        assert (image.size, image.mode) == ((16, 16), "RGB")


@pytest.mark.skipif(not shutil.which("make"), reason="no make here")
def test_make_repro_without_home_network_locale_and_commit_warns_of_nothing(
    line: Repository, first_run: tuple[Repository, str]
) -> None:
    said = first_run[1]
    assert "Traceback" not in said
    assert "MPLCONFIGDIR" not in said
    assert (line.path / "report.html").exists()
    assert "up to date" in line.ok("dvc", "status")
    assert ".venv" not in line.ok("git", "ls-files")


@pytest.mark.skipif(not shutil.which("make"), reason="no make here")
def test_make_in_a_downloaded_folder_makes_a_repository_with_a_commit(tmp_path: Path) -> None:
    """DVC stores experiments as commits, and a zip has no history."""
    copy_project(tmp_path)
    downloaded = Repository(tmp_path)
    downloaded.make(".git")
    assert downloaded.ok("git", "log", "--format=%s").splitlines() == ["As downloaded"]
    assert downloaded.ok("git", "status", "--porcelain") == ""


@pytest.mark.skipif(not shutil.which("make"), reason="no make here")
def test_make_in_a_folder_of_another_repository_makes_none(tmp_path: Path) -> None:
    larger, project = Repository(tmp_path), Repository(tmp_path / "inside")
    larger.ok("git", "init", "--quiet")
    copy_project(project.path)
    project.make(".git")
    assert not (project.path / ".git").exists()
    assert larger.run("git", "rev-parse", "--verify", "--quiet", "HEAD").stdout == ""


def test_pipeline_gives_every_item_one_final_state_and_every_crop_its_source(
    line: Repository,
) -> None:
    check_funnel(line)
    table = pd.read_csv(line.path / "data/dataset.csv", keep_default_na=False)
    assert (table["article"] != "").all()
    assert (table["sha256"].str.len() == 64).all()
    by_article = table[table["split"] != ""].groupby("article")["split"].nunique()
    assert (by_article == 1).all()


def test_evaluate_with_random_features_gives_no_fid(line: Repository) -> None:
    """The score has a name of its own."""
    scores = line.metrics("evaluate")
    assert "fid" not in scores
    assert scores["random_feature_distance"] > 0
    assert {"detector", "generated", "real"} <= scores["face_rate"].keys()


def test_history_has_the_training_with_every_epoch_and_the_score(line: Repository) -> None:
    (training,), (evaluation,) = runs(line, "train"), runs(line, "evaluate")
    client = MlflowClient(f"sqlite:///{(line.path / 'mlflow.db').as_posix()}")
    history = client.get_metric_history(training.info.run_id, "train_loss")
    assert [point.step for point in history] == [1, 2]
    assert training.data.params["train.epochs"] == "2"
    assert training.info.status == evaluation.info.status == "FINISHED"
    assert evaluation.data.tags["mlflow.parentRunId"] == training.info.run_id
    assert evaluation.data.tags["data_digest"] == line.metrics("train")["data_digest"]
    scores = line.metrics("evaluate")
    assert evaluation.data.metrics["random_feature_distance"] == pytest.approx(
        scores["random_feature_distance"]
    )
    artifacts = {entry.path for entry in client.list_artifacts(training.info.run_id)}
    assert {"samples", "params.yaml", "training_pictures.txt"} <= artifacts


def test_pipeline_writes_no_secret_into_any_file(line: Repository, secret: str) -> None:
    """Neither into the history nor into the model card."""
    card = (line.path / "models/ddpm/best_model/README.md").read_text(encoding="utf-8")
    assert "digest" in card
    for path in line.path.rglob("*"):
        if path.is_file() and ".git" not in path.parts:
            assert secret.encode() not in path.read_bytes(), path


def test_dvc_repro_run_again_runs_nothing(line: Repository) -> None:
    assert ran(line.ok("dvc", "repro")) == []
    assert line.ok("git", "status", "--porcelain") == ""


def test_make_update_requests_only_what_is_not_there(line: Repository) -> None:
    before, images = line.metrics("download"), files.digest_tree(line.path / "data/raw")
    rows = pd.read_csv(line.path / "data/ledger.csv", keep_default_na=False)
    retryable = rows["status"].isin(RETRYABLE).sum() + rows["error"].isin((PAGE, EMPTY)).sum()
    lone = rows[(rows["path"] != "") & ~rows["path"].duplicated(keep=False)]["path"].iloc[0]
    (line.path / "data/raw" / lone).unlink()
    said = line.make("update")
    assert ran(said) == ["crawl", "links", "download"]
    assert f" {retryable + 1} URLs requested in this run" in said
    assert {**line.metrics("download"), "seconds": 0} == {**before, "seconds": 0}
    assert files.digest_tree(line.path / "data/raw") == images
    line.commit("an update that brought nothing")


def test_tracked_files_name_no_person_and_no_source(line: Repository) -> None:
    tracked = line.ok("git", "ls-files", "data", "metrics", "models").split()
    text = "\n".join(
        (line.path / name).read_text(errors="replace") for name in tracked if ".png" not in name
    )
    rows = (line.path / "data/articles.jsonl").read_text(encoding="utf-8").splitlines()
    articles = [json.loads(row) for row in rows]
    for article in articles:
        assert article["id"] not in text
        assert article["author"] not in text
    pictures = [name for name in tracked if name.startswith("metrics/pictures/")]
    assert pictures == ["metrics/pictures/.gitignore"]


def test_dvc_repro_of_the_same_seed_gives_the_same_bytes_from_crawl_to_detect(
    line: Repository, tmp_path: Path
) -> None:
    """Those of all stages are compared with an undisturbed run's in torture/."""
    again = make_repository(tmp_path, SMALL)
    again.ok("dvc", "repro", "detect")
    names = ("articles.jsonl", "links.jsonl", "articles_read.csv", "ledger.csv", "failed.txt")
    for name in (*names, "detections.csv"):
        one, other = ((place.path / "data" / name).read_bytes() for place in (line, again))
        assert one == other, name
    raw = {files.digest_tree(place.path / "data/raw") for place in (line, again)}
    assert len(raw) == 1


def test_dvc_repro_with_images_of_one_s_own_as_reference_runs_evaluate_alone(
    line: Repository,
) -> None:
    reference, before = line.path / "data/reference", line.metrics("evaluate")
    own = sorted((line.path / "data/dataset/train").glob("*.png"))[:5]
    for path in own:
        shutil.copy(path, reference)
    put(line.path / "params.yaml", {"evaluate.reference": "reference"})
    try:
        assert ran(line.ok("dvc", "repro")) == ["evaluate"]
        scores = line.metrics("evaluate")
        assert (scores["reference"], scores["real"]) == ("reference", len(own))
        assert scores["reference_digest"] != before["reference_digest"] == before["trained_digest"]
        tags = [run.data.tags["reference"] for run in runs(line, "evaluate")]
        assert tags.count("reference") == 1
        (reference / own[0].name).unlink()
        assert ran(line.ok("dvc", "repro", "--dry")) == ["evaluate"]
    finally:
        for path in own:
            (reference / path.name).unlink(missing_ok=True)
        line.ok("git", "checkout", "--quiet", "HEAD", ".")  # DVC has staged what it wrote
        line.ok("dvc", "checkout")
    assert line.ok("git", "status", "--porcelain") == ""
    assert "up to date" in line.ok("dvc", "status")


def test_dvc_exp_run_with_other_steps_runs_two_stages_and_can_be_compared(
    line: Repository,
) -> None:
    output = line.ok("dvc", "exp", "run", "--name", "seven", "-S", "infer_steps=7")
    assert ran(output) == ["generate", "evaluate"]
    (training,), evaluations = runs(line, "train"), runs(line, "evaluate")
    assert {run.data.params["infer_steps"] for run in evaluations} == {"4", "7"}
    assert {run.data.tags["mlflow.parentRunId"] for run in evaluations} == {training.info.run_id}
    shown = line.ok("dvc", "exp", "show", "--csv", "--no-pager")
    assert "seven" in shown
    assert "random_feature_distance" in shown
    difference = json.loads(line.ok("dvc", "metrics", "diff", "--json"))
    assert difference["metrics/generate.json"]["infer_steps"] == {
        "old": 4,
        "new": 7,
        "diff": 3,
    }
    line.ok("dvc", "plots", "show", "--out", "dvc_plots")
    page = (line.path / "dvc_plots/index.html").read_text(encoding="utf-8")
    assert "train_loss" in page
    assert "samples.png" in page


def test_dvc_exp_run_with_a_wrong_type_says_so_and_keeps_the_model(
    line: Repository,
) -> None:
    ended = line.run("dvc", "exp", "run", "-S", "infer_steps=abc")
    assert ended.returncode != 0
    said = ended.stdout + ended.stderr
    assert "error: params.yaml: infer_steps is 'abc'; expected an integer from 1" in said
    assert "Traceback" not in said
    line.ok("git", "checkout", "--quiet", "params.yaml")
    assert (line.path / "models/ddpm/best_model/model_index.json").exists()
