"""A picture is forgotten, in a real repository with a remote and a history.

After test_whole_line, whose repository this changes for good.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from repository import STAGES, Repository, put, ran

from pttfaces import files

# The fixture runs nine stages; a busy machine must not make it fail.
pytestmark = pytest.mark.timeout(1200)


def rows(line: Repository, name: str) -> pd.DataFrame:
    return pd.read_csv(line.path / "data" / name, keep_default_na=False)


def lying(*roots: Path) -> Iterator[Path]:
    for root in roots:
        for path in root.rglob("*"):
            if path.is_file() and ".git" not in path.parts:
                yield path


def test_a_crop_is_traced_to_its_article(line: Repository) -> None:
    row = rows(line, "dataset.csv").query("split == 'train'").iloc[0]
    told = line.ok("python", "src/forget.py", "--trace", f"data/dataset/train/{row['crop']}")
    for value in (row["crop"], row["sha256"], row["article"], row["author"], row["url"]):
        assert str(value) in told
    ended = line.run("python", "src/forget.py", "--trace", f"{'0' * 16}-0.png")
    assert ended.returncode == 2
    assert "is in no data/ledger.csv" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_another_blur_threshold_chooses_anew_and_finds_nothing_anew(line: Repository) -> None:
    line.ok("git", "checkout", "--quiet", "params.yaml")
    put(line.path / "params.yaml", {"blur_threshold": 90})
    assert ran(line.ok("dvc", "repro", "--dry", "curate")) == ["curate"]
    put(line.path / "params.yaml", {"blur_threshold": 100, "detect.batch_size": 3})
    assert ran(line.ok("dvc", "repro", "--dry", "curate")) == []
    line.ok("git", "checkout", "--quiet", "params.yaml")


def test_what_is_forgotten_and_purged_is_nowhere_any_more(line: Repository, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    line.ok("git", "checkout", "--quiet", ".")  # a stage that was refused before has left no out,
    line.ok("dvc", "checkout")  # and no figures
    line.ok("dvc", "remote", "add", "--default", "backup", str(remote))
    line.ok("dvc", "push")
    line.ok("dvc", "exp", "save", "--name", "kept", "--force")
    line.ok("python", "src/pack.py", "data/dataset", "crops.zip")
    line.ok("python", "src/report.py")
    line.ok("dvc", "plots", "show")
    copies = [line.path / "report.html", line.path / "dvc_plots"]
    assert all(path.exists() for path in copies)
    table = rows(line, "dataset.csv")
    crop, other = table.query("split == 'train'").iloc[0], table.query("split == 'holdout'").iloc[0]
    digests = {crop["sha256"], other["sha256"]}
    gone = [
        path
        for path in lying(line.path / "data/raw", line.path / "data/crops", line.path / "data")
        if any(path.name.startswith(digest[:16]) for digest in digests)
    ]
    assert len({path.parts[-2] for path in gone}) >= 3, "picture, crop and training picture"
    sheets = [line.path / f"metrics/pictures/{name}.png" for name in ("contact_sheet", "nearest")]
    contents = {files.digest_file(path) for path in (*gone, *sheets)}
    middles = [content[len(content) // 2 :][:64] for content in map(Path.read_bytes, gone)]
    named = ("--crop", f"data/dataset/train/{crop['crop']}", "--url", other["url"])

    before = {path: files.digest_file(path) for path in lying(line.path / "data", remote)}
    told = line.ok("python", "src/forget.py", *named, "--dry-run")
    assert {path: files.digest_file(path) for path in lying(line.path / "data", remote)} == before
    client = MlflowClient(f"sqlite:///{(line.path / 'mlflow.db').as_posix()}")
    assert all(run.info.run_id in told for run in client.search_runs(["1"]))
    assert "dvc exp remove kept" in told
    deletion = re.search(r'python -c "(.*delete_model_version.*)"', told)
    assert deletion, told
    for digest in digests:
        assert digest[:16] in told

    line.ok("python", "src/forget.py", *named, "--purge")
    assert not any(path.exists() for path in (*gone, *copies)), "not even before dvc repro"
    assert ran(line.ok("dvc", "repro")) == STAGES
    line.ok("dvc", "push")
    head = (line.path / "data/dataset/manifest.csv").read_bytes().splitlines()[0]
    for path in lying(line.path, remote):
        content = path.read_bytes()
        listed = content.startswith(head) and any(d[:16].encode() in content for d in digests)
        assert not listed, path
        assert not any(middle in content for middle in middles), path
        assert files.digest_bytes(content) not in contents, path
        assert not any(path.name.startswith(digest[:16]) for digest in digests), path
    left = rows(line, "dataset.csv")
    assert not digests & set(left["sha256"])
    others = set(table.query("split != ''")["sha256"]) - digests
    assert others <= set(left.query("split != ''")["sha256"])
    line.ok("python", "-c", deletion[1])
    assert "up to date" in line.ok("dvc", "status")

    line.ok("python", "src/forget.py", "--purge")
    assert ran(line.ok("dvc", "repro")) == [], "what was made without them is left alone"
