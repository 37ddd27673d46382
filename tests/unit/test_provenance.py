"""Provenance: what is called an uncommitted change, and what its diff holds."""

import os
import subprocess
from pathlib import Path

import pytest

from pttfaces import provenance


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project inside a larger repository, committed."""
    project = tmp_path / "larger" / "project"
    for name in ("src/train.py", "data/articles.jsonl", "metrics/train.json", "params.yaml"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("one\n")
    (project / ".gitignore").write_text("*.log\n")
    monkeypatch.chdir(project)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    git("init", "--quiet", str(tmp_path / "larger"))
    git("add", "--all")
    git("-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "first")
    return project


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True)


def test_provenance_of_a_clean_tree_names_versions_and_no_changes(repository: Path) -> None:
    (repository / "requirements.lock").write_text("torch==2.15.0\n")
    git("add", "requirements.lock")
    git("-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "lock")
    found = provenance.collect()
    assert found.diff == ""
    assert found.facts["uncommitted changes"] == "none"
    assert len(found.facts["requirements.lock"]) == 64
    assert found.facts["torch"].startswith("2.")
    assert found.facts["device"].startswith("cpu ")


def test_provenance_of_an_edited_tree_has_the_code_and_nothing_of_the_data(
    repository: Path,
) -> None:
    """The pipeline's own outputs are no edits."""
    git("config", "diff.external", "false")
    git("config", "color.ui", "always")
    for name in ("data/articles.jsonl", "metrics/train.json", "data/new.csv", "x.log", "n.ipynb"):
        (repository / name).write_text("someone's face\n")
    assert provenance.collect().facts["uncommitted changes"] == "none"
    (repository / "src/train.py").write_text("two\n")
    (repository / "src/more.py").write_text("new code")
    (repository / "src/other.py").write_text("more code\n")
    (repository / "faces.csv").write_text("someone's face\n")
    (repository.parent / "elsewhere.py").write_text("of another project\n")
    found = provenance.collect()
    changed = "faces.csv, src/more.py, src/other.py, src/train.py"
    assert found.facts["uncommitted changes"] == changed
    assert "-one\n+two\n" in found.diff
    assert "+++ b/src/more.py\n@@ -0,0 +1 @@\n+new code\n" in found.diff
    git("stash", "--quiet", "--include-untracked")
    subprocess.run(["git", "apply"], input=found.diff.encode(), check=True)
    assert (repository / "src/other.py").read_text() == "more code\n"
    assert "someone" not in found.diff
    assert "another project" not in found.diff


def test_provenance_without_git_says_that_changes_are_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    found = provenance.collect()
    assert found.facts["uncommitted changes"].startswith("unknown")
    assert found.facts["requirements.lock"] == "none"
