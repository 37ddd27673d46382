"""The evaluate stage on small folders of drawn images: its figures, images, run and errors."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import settings
from PIL import Image
from ruamel.yaml import YAML

import evaluate
from pttfaces import cli, config, files, tables
from pttfaces.diffusion import model_folder, unet
from pttfaces.diffusion.model_folder import DiffusionModel
from pttfaces.diffusion.schedule import NoiseSchedule
from pttfaces.errors import DataError, PttFacesError, WeightsError
from pttfaces.evaluation import features, fid, image_folder, metrics, random_features, samples
from pttfaces.faces.detectors.base import Face

ROOT = Path(__file__).parents[3]
MODEL = Path("models/ddpm/best_model")


def draw(path: Path, count: int, seed: int, side: int = 64) -> None:
    path.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        coarse = rng.integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(coarse).resize((side, side)).save(path / f"{index:06}.png")


def set_params(place: Path, **changes: object) -> None:
    """The demo's parameters for 40 samples, with changes in the group evaluate."""
    values = config.read(ROOT / "presets" / "demo.yaml")
    values["evaluate"] |= changes
    values["generate"]["num_images"] = 40
    YAML().dump(values, place / "params.yaml")


def record_samples() -> dict[str, Any]:
    """Writes metrics/generate.json as generate does, and returns it."""
    made = samples.sample_settings(config.load(), MODEL)
    files.write_json("metrics/generate.json", made)
    return made


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder as generate leaves it: 40 samples, 90 training and 10 held-out images."""
    draw(tmp_path / "data" / "generated", 40, 0)
    draw(tmp_path / "data" / "dataset" / "train", 90, 1)
    draw(tmp_path / "data" / "dataset" / "holdout", 10, 2)
    draw(tmp_path / "metrics" / "pictures", 0, 0)
    Image.new("RGB", (8, 8)).save(tmp_path / "metrics" / "pictures" / "samples.png")
    (tmp_path / MODEL).mkdir(parents=True)
    (tmp_path / MODEL / "weights.bin").write_text("weights")
    set_params(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    record_samples()
    return tmp_path


def test_evaluate_with_random_features_writes_every_figure_and_logs_them(place: Path) -> None:
    """No figure of random features is called `fid` or `inception`."""
    command = [sys.executable, str(ROOT / "src" / "evaluate.py")]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{place / 'runs.db'}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("evaluate: random_feature_distance ")
    assert "40 samples for 64 dimensions" in done.stderr

    figures = json.loads((place / "metrics" / "evaluate.json").read_text(encoding="utf-8"))
    assert figures["random_feature_distance"] > 0
    assert not any(name in key for key in figures for name in ("fid", "inception"))
    assert abs(figures["random_feature_kid"]) < 3 * figures["random_feature_kid_deviation"]
    assert figures["floor"] > 0
    assert (figures["generated"], figures["real"], figures["floor_count"]) == (40, 90, 40)
    assert figures["features"] == "random"
    assert figures["dims"] == 64
    assert figures["face_rate"] == {"detector": "haar", "generated": 0.0, "real": 0.0}
    assert {"precision", "recall", "density", "coverage"} <= set(figures)
    assert figures["copies"]["too_many"] is False
    assert figures["copies"]["max_copied"] == 0.2
    assert {"to_holdout_median", "holdout_median"} <= set(figures["copies"]["features"])
    assert figures["copies"]["pixels"]["near_one_picture"] == 0
    made = json.loads((place / "metrics" / "generate.json").read_text(encoding="utf-8"))
    assert figures["generated"] == made.pop("num_images")
    assert {key: figures[key] for key in made} == made
    for name in ("nearest.png", "density.png"):
        with Image.open(place / "metrics" / "pictures" / name) as image:
            assert image.size[0] > 8 * 64
    near = tables.read_csv(place / "data" / "neighbours.csv")
    assert len(near) == 40
    nearest = near.pixels_train_distance.astype(float).min()
    assert nearest == pytest.approx(figures["copies"]["pixels"]["least"])
    assert set(near.features_holdout) <= {f"{index:06}.png" for index in range(10)}
    curves = tables.read_csv(place / "metrics" / "plots" / "nearest.csv")
    assert list(curves.columns)[:3] == [
        "share",
        "pixels_samples_to_train",
        "pixels_samples_to_holdout",
    ]
    assert float(curves.pixels_samples_to_train[50]) == figures["copies"]["pixels"]["median"]

    from mlflow import MlflowClient

    client = MlflowClient(environment["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("pttfaces")
    assert experiment
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    logged = run.data.metrics["random_feature_distance"]
    assert logged == pytest.approx(figures["random_feature_distance"])
    assert run.data.metrics["face_rate_generated"] == 0
    assert run.data.tags["model_digest"] == made["model_digest"]
    assert run.data.tags["copies"] == "no warning"
    logged = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"samples.png", "nearest.png", "density.png"} <= logged


def names(figures: dict[str, Any]) -> set[str]:
    inner = (names(value) for value in figures.values() if isinstance(value, dict))
    return set(figures).union(*inner)


def test_pipeline_page_lists_every_figure_with_its_function(
    place: Path,
) -> None:
    """Of docs/pipeline.md; each kind of features has its own names for the distance and KID."""
    text = (ROOT / "docs/pipeline.md").read_text(encoding="utf-8")
    table = text.partition("| metric |")[2].partition("\n\n")[0]
    rows = [line.split("|") for line in table.splitlines()[2:]]
    documented = {name for row in rows for name in re.findall(r"[\w.]+(?=`)", row[1])}
    extractor = features.make_extractor(settings.group("evaluate", batch_size=16), place / "cache")
    figures = scored(extractor, place).figures
    figures |= {"repeats": metrics.repeats([1, 2], 0), **record_samples(), "seconds": 1}
    del figures["num_images"], figures["random_feature_kid_deviation"]
    ends = {"_low", "_high", "_infinite", "_infinite_error"}
    figures = {key: value for key, value in figures.items() if not key.endswith(tuple(ends))}
    expected = names(figures) | ends | {"fid", "fid_torchvision", "inception_distance"}
    expected |= {"kid", "kid_deviation", "kid_torchvision", "inception_kid"}
    expected |= {"copies.pixels", "copies.features"}
    assert documented | {"pixels", "features"} == expected
    for module, function in re.findall(r"`(\w+)\.(\w+)`", " ".join(row[3] for row in rows)):
        assert callable(getattr(importlib.import_module(f"pttfaces.evaluation.{module}"), function))


def test_compute_shows_the_detector_as_many_real_images_as_samples(place: Path) -> None:
    seen: list[np.ndarray] = []

    def detect(image: np.ndarray) -> list[Face]:
        seen.append(image)
        return []

    options = settings.group("evaluate", batch_size=16)
    extractor = features.make_extractor(options, place / "cache")
    metrics.compute(sets(place), extractor, detect, options)
    assert len(seen) == 2 * 40


def test_evaluate_of_samples_that_are_training_images_warns(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place / 'runs.db'}")
    generated, trained = place / "data" / "generated", place / "data" / "dataset" / "train"
    for index in range(20):
        shutil.copy(trained / f"{index:06}.png", generated)
    evaluate.main()
    said = capsys.readouterr().err
    assert "COPIES OF TRAINING IMAGES: 50.0% of the samples" in said
    copies = files.read_json("metrics/evaluate.json")["copies"]
    assert (copies["copied"], copies["too_many"]) == (0.5, True)
    assert copies["features"]["near_one_picture"] == 0.5
    set_params(place, max_copied=0.5)
    evaluate.main()
    assert "COPIES" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "count", "seed"),
    [("holdout", 10, 2), ("reference", 30, 3), ("reference", 40, 0)],
    ids=["held-out images", "images of one's own", "the samples themselves"],
)
def test_evaluate_with_another_reference_scores_against_its_images(
    place: Path, monkeypatch: pytest.MonkeyPatch, name: str, count: int, seed: int
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place / 'runs.db'}")
    data = place / "data"
    if name == "reference":
        draw(data / "reference", count, seed)
    samples, trained, real = (
        image_folder.open_folder(path, "")
        for path in (
            data / "generated",
            data / "dataset/train",
            data / {"holdout": "dataset/holdout", "reference": "reference"}[name],
        )
    )
    set_params(place, reference=name)
    evaluate.main()
    figures = files.read_json("metrics/evaluate.json")
    assert (figures["reference"], figures["real"]) == (name, count)
    assert real.digest.startswith(figures["reference_digest"])
    assert trained.digest.startswith(figures["trained_digest"])
    extractor = features.make_extractor(settings.group("evaluate", batch_size=16), place / "cache")
    distance = figures["random_feature_distance"]
    assert distance == pytest.approx(metrics.distance(extractor, samples, real), 1e-4, 1e-6)
    assert distance != pytest.approx(metrics.distance(extractor, samples, trained), rel=0.1)
    if real.digest == samples.digest:
        assert distance < 1e-6
        assert (figures["precision"], figures["recall"], figures["coverage"]) == (1, 1, 1)

    from mlflow import MlflowClient

    [run] = MlflowClient(f"sqlite:///{place / 'runs.db'}").search_runs(["1"])
    assert run.data.tags["reference"] == name
    assert run.data.tags["reference_digest"] == figures["reference_digest"]
    assert run.data.metrics["random_feature_distance"] == distance


def test_evaluate_with_repeats_gives_the_spread_over_sampling_seeds(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place / 'runs.db'}")
    shape = settings.group("model", channels=[8, 8], attention=[False, False])
    schedule = NoiseSchedule("cosine", 1000, "v_prediction", False)
    model = DiffusionModel(unet.build(shape, 64, seed=0), schedule)
    model_folder.save_model(place / "models/ddpm/best_model", model, {})
    set_params(place, repeats=3)
    text = (place / "params.yaml").read_text().replace("num_images: 40", "num_images: 3")
    (place / "params.yaml").write_text(text.replace("infer_steps: 20", "infer_steps: 2"))
    record_samples()
    evaluate.main()
    repeats = files.read_json("metrics/evaluate.json")["repeats"]
    assert (repeats["seeds"], repeats["first_seed"]) == (3, 0)
    assert 0 < repeats["deviation"] <= repeats["spread"]
    assert not list((place / ".resume").iterdir())


def sets(place: Path, reference: str = "train") -> metrics.ImageSets:
    data = place / "data"
    real = Path(reference) if reference.endswith(".npz") else data / "dataset" / reference
    return metrics.ImageSets(
        image_folder.open_folder(data / "generated", ""),
        real if reference.endswith(".npz") else image_folder.open_folder(real, ""),
        image_folder.open_folder(data / "dataset" / "train", ""),
        image_folder.open_if_any(data / "dataset" / "holdout"),
    )


def scored(
    extractor: features.Extractor, place: Path, reference: str = "train"
) -> metrics.Evaluation:
    options = settings.group("evaluate")
    return metrics.compute(sets(place, reference), extractor, lambda image: [], options)


def test_compute_caches_the_reference_until_an_image_changes(place: Path) -> None:
    cache = place / "cache"
    extractor = features.make_extractor(settings.group("evaluate", batch_size=16), cache)
    first = scored(extractor, place).figures
    kept = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(kept) == 2  # train and holdout
    again = scored(extractor, place).figures
    assert again == first
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == kept
    for path in kept:
        path.write_bytes(b"a disk was full")
    assert scored(extractor, place).figures == first
    draw(place / "new", 1, 7)
    (place / "new" / "000000.png").replace(place / "data" / "dataset" / "train" / "000000.png")
    changed = scored(extractor, place).figures
    assert changed["random_feature_distance"] != first["random_feature_distance"]


def test_embed_once_with_another_cache_version_embeds_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = place / "cache"
    extractor = features.make_extractor(settings.group("evaluate", batch_size=16), cache)
    for _ in range(2):
        extractor.embed_once(sets(place).trained)
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(random_features, "CACHE_VERSION", "another")
    extractor = features.make_extractor(settings.group("evaluate", batch_size=16), cache)
    extractor.embed_once(sets(place).trained)
    assert len(list(cache.iterdir())) == 2


def test_compute_with_statistics_as_reference_gives_the_distance_of_their_images(
    place: Path,
) -> None:
    """Statistics of another network raise an error."""
    cache = place / "cache"
    extractor = features.make_extractor(settings.group("evaluate", batch_size=16), cache)
    by_images = scored(extractor, place).figures
    train = extractor.embed(sets(place).trained)
    kept = next(
        path for path in cache.iterdir() if len(fid.read_npz(path, 64, "rows")[1]["rows"]) == 90
    )
    by_statistics = scored(extractor, place, str(kept)).figures
    assert by_statistics["random_feature_distance"] == pytest.approx(
        by_images["random_feature_distance"]
    )
    assert "floor" not in by_statistics
    fid.write_npz("pytorch_fid.npz", train.statistics)
    with pytest.raises(DataError, match=r"pytorch_fid\.npz does not say that it was made"):
        scored(extractor, place, "pytorch_fid.npz")


def test_statistics_are_cached_without_features_until_embed_once_needs_them(place: Path) -> None:
    extractor = features.make_extractor(settings.group("evaluate", batch_size=16), place / "cache")
    trained = sets(place).trained
    statistics = extractor.statistics(trained)
    [kept] = (place / "cache").iterdir()
    assert kept.stat().st_size < 64 * 64 * 8 + 4000
    found = extractor.embed_once(trained)
    assert len(found.rows) == 90
    assert fid.frechet_distance(found.statistics, statistics) < 1e-6
    assert metrics.distance(extractor, trained, trained) < 1e-6


def test_distance_command_compares_folders_or_their_statistics(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "dvc.yaml").touch()

    def said(*words: str) -> str:
        cli.commands.main(["distance", *words], standalone_mode=False)
        return capsys.readouterr().out

    by_folders = said("data/generated", "data/dataset/train")
    assert by_folders.startswith("random_feature_distance: ")
    said("--save", "train.npz", "data/dataset/train")
    assert said("data/generated", "train.npz") == by_folders
    set_params(place, reference="train.npz")
    saved = said("--save", "train.npz", "data/dataset/holdout")
    assert "dvc repro --force --single-item evaluate" in saved
    with pytest.raises(click.UsageError, match=r"must be a \.npz"):
        said("--save", "statistics", "data/dataset/train")
    with pytest.raises(DataError, match="none holds no image; name a folder"):
        said("data/generated", "none")


def test_compute_without_held_out_images_leaves_out_their_figures(place: Path) -> None:
    for path in (place / "data" / "dataset" / "holdout").iterdir():
        path.unlink()
    extractor = features.make_extractor(settings.group("evaluate", batch_size=16), place / "cache")
    found = scored(extractor, place)
    assert "closer_than_holdout" not in found.figures["copies"]["pixels"]
    assert found.distances["pixels_holdout_to_train"] == [None] * 101
    assert "pixels_holdout" not in found.neighbours
    assert "median" in found.figures["copies"]["pixels"]


def refused(kind: type[PttFacesError]) -> str:
    with pytest.raises(kind) as caught:
        evaluate.main()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_evaluate_of_each_mistake_raises_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_params(place, reference="reference")
    assert "data/reference holds no image; put images there" in refused(DataError)
    draw(place / "data" / "reference", 5, 0, side=32)
    assert "64×64" in refused(DataError)
    set_params(place, reference="missing.npz")
    assert "missing.npz does not exist" in refused(DataError)
    (place / "broken.npz").write_bytes(b"PK hello")
    set_params(place, reference="broken.npz")
    assert "broken.npz does not hold" in refused(DataError)
    fid.write_npz("big.npz", fid.Statistics(np.zeros(192), np.eye(192)))
    set_params(place, reference="big.npz")
    assert "evaluate.dims" in refused(DataError)
    set_params(place, features="inception", weights="none.pth")
    assert "none.pth" in refused(WeightsError)
    set_params(place)
    for path in sorted((place / "data" / "generated").iterdir())[1:]:
        path.unlink()
    assert "one image" in refused(DataError)
    (place / "data" / "generated" / "000000.png").unlink()
    assert "data/generated holds no image" in refused(DataError)
    shutil.rmtree(place / MODEL)
    assert "models/ddpm/best_model does not exist" in refused(DataError)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_images", 39),
        ("sampler", "ddpm"),
        ("infer_steps", 19),
        ("timestep_spacing", "leading"),
        ("seed", 1),
        ("model_digest", "another"),
    ],
)
def test_evaluate_of_samples_made_with_other_settings_raises_data_error(
    place: Path, key: str, value: object
) -> None:
    files.write_json("metrics/generate.json", record_samples() | {key: value})
    said = refused(DataError)
    assert f"{key} {value}" in said
    assert said.endswith("run `dvc repro generate`.")
    assert not (place / "metrics" / "evaluate.json").exists()


def test_evaluate_with_another_model_than_the_samples_raises_data_error(place: Path) -> None:
    (place / MODEL / "weights.bin").write_text("other weights")
    assert "model_digest" in refused(DataError)


def test_evaluate_without_the_metrics_of_generate_gives_the_same_figures(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place / 'runs.db'}")
    evaluate.main()
    before = files.read_json("metrics/evaluate.json")
    (place / "metrics" / "generate.json").unlink()
    evaluate.main()
    after = files.read_json("metrics/evaluate.json")
    assert list(after) == list(before)
    assert after | {"seconds": 0} == before | {"seconds": 0}
