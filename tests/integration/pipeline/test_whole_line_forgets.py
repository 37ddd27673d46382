"""Images are erased, by each kind of name, from a real repository with a remote and a history.

Runs after test_whole_line, whose repository it changes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from repository import STAGES, Repository, put, ran

from pttfaces import files
from pttfaces.images import read_size

# The fixture runs nine stages, which takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(1200)


def rows(line: Repository, name: str) -> pd.DataFrame:
    return pd.read_csv(line.path / "data" / name, keep_default_na=False)


def stored_files(*roots: Path) -> Iterator[Path]:
    for root in roots:
        for path in root.rglob("*"):
            if path.is_file() and ".git" not in path.parts:
                yield path


def digests_of(*roots: Path) -> dict[Path, str]:
    return {path: files.digest_file(path) for path in stored_files(*roots)}


@dataclass(frozen=True)
class Trail:
    """Images, and what identifies them and their crops in any store."""

    digests: set[str]
    paths: list[Path]
    contents: set[str]
    middles: list[bytes]

    @classmethod
    def of(cls, line: Repository, digests: set[str]) -> "Trail":
        image_ids = {digest[:16] for digest in digests}
        paths = [path for path in stored_files(line.path / "data") if path.name[:16] in image_ids]
        contents = [path.read_bytes() for path in paths]
        folders = {path.relative_to(line.path / "data").parts[0] for path in paths}
        assert folders == {"raw", "crops", "dataset"}
        middles = [content[len(content) // 2 :][:64] for content in contents]
        return cls(digests, paths, set(map(files.digest_bytes, contents)), middles)

    def is_in(self, path: Path, content: bytes) -> bool:
        return (
            any(path.name.startswith(digest[:16]) for digest in self.digests)
            or files.digest_bytes(content) in self.contents
            or any(middle in content for middle in self.middles)
        )


def one_of_each_kind(line: Repository) -> dict[str, tuple[str, set[str]]]:
    """Kind of name → a name and the digests of its images; no image has two of the names."""
    table, ledger = rows(line, "dataset.csv"), rows(line, "ledger.csv").query("sha256 != ''")
    held_out, trained = table.query("split == 'holdout'").iloc[0], table.query("split == 'train'")
    some, of_one, of_other = [crops for _, crops in trained.groupby("article")][:3]
    crop, other = some.iloc[0], some.iloc[1]
    article, author = of_one["article"].iloc[0], of_other["author"].iloc[0]
    posted = ledger.groupby("article")["sha256"].agg(set)
    named = {
        "crop": (f"data/dataset/train/{crop['crop']}", {crop["sha256"]}),
        "url": (held_out["url"], {held_out["sha256"]}),
        "article": (article, posted[article]),
        "author": (author, posted[of_other["article"].iloc[0]]),
        "sha256": (other["sha256"], {other["sha256"]}),
    }
    digests = [digests for _, digests in named.values()]
    assert len(set.union(*digests)) == sum(map(len, digests)) > len(digests)
    return named


def test_a_crop_is_traced_to_its_article(line: Repository) -> None:
    row = rows(line, "dataset.csv").query("split == 'train'").iloc[0]
    printed = line.ok("python", "-m", "pttfaces", "trace", f"data/dataset/train/{row['crop']}")
    for value in (row["crop"], row["sha256"], row["article"], row["author"], row["url"]):
        assert str(value) in printed
    ended = line.run("python", "-m", "pttfaces", "trace", f"{'0' * 16}-0.png")
    assert ended.returncode == 2
    assert "is in no data/ledger.csv" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_another_blur_threshold_repeats_curate_only(line: Repository) -> None:
    line.ok("git", "checkout", "--quiet", "params.yaml")
    put(line.path / "params.yaml", {"blur_threshold": 90})
    assert ran(line.ok("dvc", "repro", "--dry", "curate")) == ["curate"]
    put(line.path / "params.yaml", {"blur_threshold": 300, "detect.batch_size": 3})
    assert ran(line.ok("dvc", "repro", "--dry", "curate")) == []
    line.ok("git", "checkout", "--quiet", "params.yaml")


def test_another_crop_size_repeats_crop_there_and_back(line: Repository) -> None:
    """DVC's run cache ignores a key called size in a group of parameters."""
    line.ok("git", "checkout", "--quiet", "params.yaml")
    for size in (128, 256):
        put(line.path / "params.yaml", {"crop.size": size})
        line.ok("dvc", "repro", "crop")
        sides = {read_size(path) for path in (line.path / "data/crops").glob("*.png")}
        assert sides == {(size, size)}
    line.ok("dvc", "repro")
    assert line.ok("git", "status", "--porcelain") == ""


def test_purged_images_are_in_no_store(line: Repository, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    line.ok("git", "checkout", "--quiet", ".")  # a stage that failed in an earlier test has left
    line.ok("dvc", "checkout")  # neither outs nor metrics
    line.ok("dvc", "remote", "add", "--default", "backup", str(remote))
    line.ok("dvc", "push")
    line.ok("dvc", "exp", "save", "--name", "kept", "--force")
    line.ok("python", "-m", "pttfaces", "pack", "data/dataset", "crops.zip")
    line.ok("python", "-m", "pttfaces", "report")
    line.ok("dvc", "plots", "show")
    copies = [line.path / "report.html", line.path / "dvc_plots"]
    assert all(path.exists() for path in copies)
    table, named = rows(line, "dataset.csv"), one_of_each_kind(line)
    trails = {kind: Trail.of(line, digests) for kind, (_, digests) in named.items()}
    digests = set.union(*(trail.digests for trail in trails.values()))
    erased = [path for trail in trails.values() for path in trail.paths]
    others = set(table.query("split != ''")["sha256"]) - digests
    kept = Trail.of(line, others)
    sheets = [line.path / f"metrics/pictures/{name}.png" for name in ("contact_sheet", "nearest")]
    shown = set(map(files.digest_file, sheets))
    options = [word for kind, (name, _) in named.items() for word in (f"--{kind}", name)]

    before = digests_of(line.path / "data", remote)
    printed = line.ok("python", "-m", "pttfaces", "forget", *options, "--dry-run")
    assert digests_of(line.path / "data", remote) == before
    client = MlflowClient(f"sqlite:///{(line.path / 'mlflow.db').as_posix()}")
    assert all(run.info.run_id in printed for run in client.search_runs(["1"]))
    assert "dvc exp remove kept" in printed
    deletion = re.search(r'python -c "(.*delete_model_version.*)"', printed)
    assert deletion, printed
    for digest in digests:
        assert digest[:16] in printed

    line.ok("python", "-m", "pttfaces", "forget", *options[:6], "--purge")
    later = line.ok(
        "python", "-m", "pttfaces", "forget", *options[6:], "--purge"
    )  # others, another day
    trained = re.findall(r"dvc exp remove .*|commits whose model .*", printed)
    assert len(trained) == 2
    assert trained == re.findall(r"dvc exp remove .*|commits whose model .*", later)
    assert not any(path.exists() for path in (*erased, *copies)), "not even before dvc repro"
    two = {
        "PTTFACES_LAUNCHER": "torchrun --standalone --nproc-per-node 2",
        "ACCELERATE_USE_CPU": "true",
    }
    assert ran(line.ok("dvc", "repro", **two)) == STAGES
    assert line.metrics("train")["processes"] == 2
    line.ok("dvc", "push")
    head = (line.path / "data/dataset/manifest.csv").read_bytes().splitlines()[0]
    found: dict[str, list[Path]] = {kind: [] for kind in trails}
    seen = set()
    for path in stored_files(line.path, remote):
        content = path.read_bytes()
        seen.add(files.digest_bytes(content))
        by_name = content.startswith(head) and any(d[:16].encode() in content for d in digests)
        assert not by_name, path
        for kind, trail in trails.items():
            if trail.is_in(path, content):
                found[kind].append(path)
    assert found == {kind: [] for kind in trails}
    assert not shown & seen
    assert kept.contents <= seen
    left = rows(line, "dataset.csv")
    assert not digests & set(left["sha256"])
    assert others <= set(left.query("split != ''")["sha256"])
    listed = (line.path / "data/articles.jsonl").read_text(encoding="utf-8")
    assert not any(named[kind][0] in listed for kind in ("article", "author"))
    line.ok("python", "-c", deletion[1])
    assert "up to date" in line.ok("dvc", "status")

    line.ok("python", "-m", "pttfaces", "forget", "--purge")
    assert ran(line.ok("dvc", "repro")) == [], "what was made without them is left alone"

    (line.path / "data/denylist.txt").write_text("# an earlier commit's\n")
    refused = line.run("dvc", "repro")
    assert refused.returncode != 0
    assert "data/denylist.txt lacks" in refused.stderr + refused.stdout
    line.ok("dvc", "repro", "--force", "--single-item", "inputs")
    readers = ["crawl", "links", "download", "curate"]
    assert ran(line.ok("dvc", "repro")) == readers, "nobody is back: the data set is the same"
