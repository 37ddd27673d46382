"""Versions of the data: what a commit had comes back from the cache, here and in another clone."""

import hashlib

import pytest
from repository import Repository, put, ran

pytestmark = pytest.mark.timeout(900)


def test_dvc_repro_with_nothing_to_do_runs_nothing(light: Repository) -> None:
    assert ran(light.ok("dvc", "repro")) == []
    assert light.ok("git", "status", "--porcelain") == ""


def test_dvc_repro_of_a_changed_threshold_runs_from_curate_on(
    light: Repository,
) -> None:
    """The older commit comes back without a run."""
    image = light.path / "data/dataset/train/a.png"
    before = image.read_bytes()
    put(light.path / "params.yaml", {"blur_threshold": 150})
    assert ran(light.ok("dvc", "repro")) == ["curate", "train", "generate", "evaluate"]
    light.commit("sharper")
    after = image.read_bytes()
    assert after != before
    branch = light.ok("git", "branch", "--show-current").strip()
    light.ok("git", "checkout", "--quiet", "HEAD~1")
    assert ran(light.ok("dvc", "repro")) == []
    assert image.read_bytes() == before
    light.ok("git", "checkout", "--quiet", branch)
    light.ok("dvc", "checkout")
    assert image.read_bytes() == after
    light.ok("git", "reset", "--quiet", "--hard", "HEAD~1")
    light.ok("dvc", "checkout")


def test_deny_list_when_edited_in_place_loses_no_version(
    light: Repository,
) -> None:
    path = light.path / "data/denylist.txt"
    versions = [path.read_bytes()]
    for line in ("author:one\n", "author:two\n"):
        with path.open("a") as handle:  # as an editor does that keeps the file
            handle.write(line)
        versions.append(path.read_bytes())
        light.ok("dvc", "repro", "crawl")
    for content in versions:
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        cached = light.path / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
        if content is versions[0] and not cached.exists():
            continue  # it came with the clone, which has no cache
        assert cached.read_bytes() == content
    light.ok("git", "reset", "--quiet", "--hard")  # DVC has staged data/inputs.dvc and dvc.lock
    light.ok("dvc", "checkout", "--force")


def test_deny_list_when_edited_after_a_cached_crawl_loses_no_version(
    light: Repository,
) -> None:
    """DVC takes the crawl from its run cache, and does not run the list's first reader."""
    path = light.path / "data/denylist.txt"
    light.ok("python", "src/inputs.py")  # after a checkout the file is a link to DVC's cache
    before = path.read_text()
    path.write_text(before + "author:three\n")
    light.ok("dvc", "repro", "download")
    path.write_text(before)
    output = light.ok("dvc", "repro", "download")
    assert "Stage 'crawl' is cached" in output
    assert "download" in ran(output)
    with path.open("a") as handle:  # as an editor does that keeps the file
        handle.write("author:four\n")
    digest = hashlib.md5(before.encode(), usedforsecurity=False).hexdigest()
    cached = light.path / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    assert cached.read_text() == before
    light.ok("git", "reset", "--quiet", "--hard")  # DVC has staged data/inputs.dvc and dvc.lock
    light.ok("dvc", "checkout", "--force")
