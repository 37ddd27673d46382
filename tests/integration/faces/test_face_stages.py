"""The stages detect, crop and curate, on a folder as download leaves it."""

from pathlib import Path

import numpy as np
import pytest
from faces_support import Portrait, Posted, Workspace
from PIL import Image

import crop
import curate
import detect
from pttfaces import config, files, images, manifest, tables
from pttfaces.demo import drawing
from pttfaces.errors import DataError

TABLES = ("data/detections.csv", "data/crops.csv", "data/dataset.csv", "metrics/plots/blur.csv")
FOLDERS = ("data/crops", "data/dataset", "metrics/pictures", "metrics/plots")


@pytest.fixture
def posted(portraits: list[Portrait]) -> list[Posted]:
    """Nine faces in four articles, one face in the inbox; one image twice, a blurred face, a
    scene and something broken."""
    rng = np.random.default_rng(5)
    soft = drawing.blurred(drawing.portrait(drawing.Person.random(rng), rng), rng)
    scene = drawing.scene(rng)
    contents = [portrait.png() for portrait in portraits[:9]]
    contents += [contents[0], images.png_bytes(soft.image), images.png_bytes(scene.image)]
    board = [
        Posted(content, f"M.{number % 4}", f"https://i.example/{number}.png")
        for number, content in enumerate([*contents, b"broken"])
    ]
    return [*board, Posted(portraits[9].png(), "", "inbox:ann/1.png")]


def run() -> None:
    detect.main()
    crop.main()
    curate.main()


def outputs(root: Path) -> dict[str, str]:
    tables = {name: files.digest_file(root / name) for name in TABLES}
    return tables | {name: files.digest_tree(root / name) for name in FOLDERS}


def test_face_stages_make_a_data_set_of_posted_images(
    workspace: Workspace, posted: list[Posted]
) -> None:
    root = workspace(posted)
    run()
    counts = files.read_json("metrics/detect.json")
    assert (counts["pictures"], counts["with_face"]) == (13, 11)
    assert (counts["without_face"], counts["unreadable"]) == (1, 1)
    table = tables.read_csv("data/dataset.csv")
    assert list(table["reason"]).count("blurred") == 1
    kept = table[table["reason"] == ""]
    assert len(kept) == 10
    assert set(kept["split"]) == {"train", "holdout"}
    assert all(kept.groupby("article")["split"].nunique() == 1)
    assert set(table[table["article"] != ""]["author"]) <= {f"byM.{n}" for n in range(4)}
    manifest.check_manifest(root / "data/dataset")
    listed = tables.read_csv("data/dataset/manifest.csv")["picture"]
    assert sorted(listed) == sorted(kept["split"] + "/" + kept["crop"])
    for side in ("train", "holdout"):
        names = sorted(path.name for path in (root / "data/dataset" / side).glob("*.png"))
        assert names == sorted(kept[kept["split"] == side]["crop"])
        read = images.read_rgb([root / "data/dataset" / side / name for name in names])
        assert read.shape[1:] == (64, 64, 3)
    assert Image.open("metrics/pictures/contact_sheet.png").width > 64
    assert files.read_json("metrics/curate.json")["left_out"]["blurred"] == 1


def test_face_stages_run_again_write_the_same_bytes(
    workspace: Workspace, posted: list[Posted]
) -> None:
    root = workspace(posted)
    run()
    first = outputs(root)
    run()
    assert outputs(root) == first
    for path in sorted((root / ".cache").rglob("*.json")):
        path.unlink()
    run()
    assert outputs(root) == first


def test_face_stages_leave_denied_authors_out_of_the_data_set(
    workspace: Workspace, posted: list[Posted]
) -> None:
    root = workspace(posted)
    files.write_text("data/denylist.txt", "author:byM.1\n")
    run()
    table = tables.read_csv("data/dataset.csv")
    assert "M.1" not in set(table["article"])
    denied = set(table[table["reason"] == "denied"]["crop"])
    assert denied
    assert not denied & {path.name for path in (root / "data/dataset").rglob("*.png")}


def test_curate_with_recrop_finds_the_face_on_its_crop(
    workspace: Workspace, posted: list[Posted]
) -> None:
    root = workspace(posted[:5], again=("recrop: false", "recrop: true"))
    run()
    made = sorted((root / "data/dataset").rglob("*.png"))
    assert len(made) >= 4
    assert images.read_rgb(made).shape[1:] == (64, 64, 3)
    once = [images.read_rgb([root / "data/crops" / path.name])[0] for path in made]
    shrunk = np.stack([np.asarray(Image.fromarray(c).resize((64, 64))) for c in once])
    assert np.abs(images.read_rgb(made).astype(int) - shrunk).mean() < 25


def test_curate_with_a_higher_threshold_for_the_second_pass_uses_fewer_crops(
    workspace: Workspace, posted: list[Posted]
) -> None:
    """No face scores 1: so all crops are left out, though the first pass took them."""
    workspace(
        posted[:5],
        again=("recrop: false", "recrop: true"),
        threshold=("recrop_threshold: null", "recrop_threshold: 1.0"),
    )
    with pytest.raises(DataError, match="0 of 5 crops can be used"):
        run()
    reasons = set(tables.read_csv("data/dataset.csv")["reason"])
    assert reasons == {"no face when cropped again"}


def test_curate_when_recrop_finds_no_face_uses_a_copy(
    workspace: Workspace, portraits: list[Portrait], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Image.fromarray(portraits[0].pixels)
    smaller = original.resize((original.width * 4 // 5, original.height * 4 // 5))
    others = [portrait.png() for portrait in portraits[1:4]]
    posted = [images.png_bytes(original), images.png_bytes(smaller), *others]
    root = workspace(
        [Posted(png, f"M.{n}", f"https://i.example/{n}.png") for n, png in enumerate(posted)],
        threshold=("blur_threshold: 300", "blur_threshold: 0"),
    )
    run()
    table = tables.read_csv("data/dataset.csv").set_index("crop")
    copy = table[table["reason"] == "duplicate"]
    assert len(copy) == 1
    lost, make = copy["duplicate_of"].item(), curate.make_image(config.load())
    monkeypatch.setattr(
        curate,
        "make_image",
        lambda options: lambda path: None if path.name == lost else make(path),
    )
    curate.main()
    table = tables.read_csv("data/dataset.csv").set_index("crop")
    assert table.loc[lost, "reason"] == "no face when cropped again"
    assert table.loc[copy.index[0], "reason"] == ""
    made = {path.name for path in (root / "data/dataset").rglob("*.png")}
    assert made == set(table[table["reason"] == ""].index)
    (root / "data/crops" / copy.index[0]).unlink()
    with pytest.raises(DataError, match=r"does not exist any more; run `dvc repro`"):
        curate.main()


def test_detect_without_a_face_in_any_image_raises_data_error(workspace: Workspace) -> None:
    scene = drawing.scene(np.random.default_rng(1))
    workspace([Posted(images.png_bytes(scene.image), "M.1", "https://i.example/1.png")])
    with pytest.raises(DataError, match=r"haar found no face in any of the 1 images"):
        detect.main()
    assert Path("data/detections.csv").exists()


@pytest.mark.parametrize(
    ("source", "url", "expected"),
    [("demo", "https://i.example/1", 0), ("demo", "inbox:1.png", 1), ("inbox", "inbox:1.png", 1)],
)
def test_detect_by_haar_says_what_it_misses_on_photographs(
    workspace: Workspace,
    portraits: list[Portrait],
    capsys: pytest.CaptureFixture[str],
    source: str,
    url: str,
    expected: int,
) -> None:
    article = "" if url.startswith("inbox:") else "M.1"
    workspace(
        [Posted(portraits[0].png(), article, url)],
        source=("source: demo", f"source: {source}"),
    )
    detect.main()
    said = capsys.readouterr().err
    assert (
        said.count("haar misses about one face in five; set detect.detector to yunet") == expected
    )


def test_curate_of_too_few_crops_raises_data_error(
    workspace: Workspace, posted: list[Posted]
) -> None:
    workspace(posted[:3], threshold=("blur_threshold: 300", "blur_threshold: 100000"))
    with pytest.raises(DataError, match="0 of 3 crops can be used"):
        run()
