"""The documents: their links lead somewhere, and their commands work as they stand there.

Every command of every ```sh block is run in the light line, or is known here with the test that
runs it, or stands in CONTRIBUTING.md's list of those that no test runs.
"""

import re
import shlex
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from repository import PROJECT, STAGES, Repository, ran

pytestmark = pytest.mark.timeout(1500)

PAGES = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((PROJECT / "docs").glob("*.md"))
WALKED = ("README.md", "docs/experiments.md", "docs/notebook.md")  # below, from top to bottom
CLUSTER = "docs/cluster.md"  # needs one
ELSEWHERE = {
    # command → where it is run
    "make repro": "tests/history/test_documents.py::test_make_repro_ends_with_where_to_look",
    "make test": ".ci/run",
    "make check": ".ci/run",
    "make format": ".ci/run",  # what it mends is what make check finds
    "dvc repro": "tests/pipeline/test_whole_line.py",
    "dvc queue start": "tests/tracking/test_ways_to_run.py",
    "OMP_NUM_THREADS=1 dvc queue start -j 2": "tests/tracking/test_ways_to_run.py",
    "python src/preset.py best": "tests/ground/test_preset.py",
    "PYTHONPATH=src python benchmarks/timesteps.py": "benchmarks/timesteps.py",
}
FAMILIES = {  # other rooms' commands: how they begin → where they are run
    "python src/forget.py": "tests/pipeline/test_whole_line_forgets.py",
    "python src/distance.py": "tests/scores/test_evaluate_stage.py",
    "PYTHONPATH=src python benchmarks/": "benchmarks",
    "PYTHONPATH=src OMP_NUM_THREADS=1 python benchmarks/": "benchmarks",
}


def commands(page: Path) -> list[str]:
    """The lines of the page's sh blocks without their remarks; && makes two."""
    found = []
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M):
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"(^|\s)#\s.*", "", line).strip()
            found += [part.strip() for part in line.split("&&") if part.strip()]
    return found


def not_run() -> set[str]:
    text = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```text\n(.*?)^```", text, re.S | re.M)
    return set(block.splitlines())


def known(command: str) -> bool:
    return command in ELSEWHERE or any(command.startswith(start) for start in FAMILIES)


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        place = page.parent / path if path else page
        assert place.exists(), target
        if anchor:
            assert anchor in anchors(place), target


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    for page in PAGES[1:]:
        name = page.relative_to(PROJECT).as_posix()
        linking = [p for p in PAGES if p != page and page.name in p.read_text(encoding="utf-8")]
        assert name in readme or linking, name


def test_what_is_said_to_run_elsewhere_does() -> None:
    for place in [*ELSEWHERE.values(), *FAMILIES.values()]:
        path, _, name = place.partition("::")
        assert (PROJECT / path).exists()
        assert not name or f"def {name}" in (PROJECT / path).read_text(encoding="utf-8")
    ci = (PROJECT / ".ci/run").read_text(encoding="utf-8")
    assert {"make check", "make test"} <= set(ci.splitlines())


def test_no_page_has_a_command_that_nobody_knows() -> None:
    walked = {command for page in WALKED for command in commands(PROJECT / page)}
    for page in PAGES:
        if page != PROJECT / CLUSTER:
            new = [line for line in commands(page) if line not in walked and not known(line)]
            assert set(new) <= not_run(), page.name


def test_make_repro_ends_with_where_to_look(light: Repository) -> None:
    lines = light.make("repro").splitlines()
    assert [line.split("  ")[0] for line in lines[-3:]] == ["Look at", "Read", "Browse"]
    for line in lines[-3:-1]:
        assert (light.path / line.split()[2 if line.startswith("Look") else 1]).exists()


def run_page(
    repository: Repository, lines: list[str], names: dict[str, str], before: dict[str, Callable]
) -> dict[str, str]:
    """Runs a page's commands in order; names: what stands for something → what it stands for.

    before: what has to happen before a command, such as waiting. Returns what each command said.
    """
    said, skipped = {}, not_run()
    for line in lines:
        if line in before:
            before[line]()
        if line in skipped or known(line):
            continue
        command = [names.get(word, word) for word in shlex.split(line)]
        if line.startswith("git commit -m"):  # a reader has something to commit
            with (repository.path / "notes.txt").open("a") as notes:
                notes.write(f"{line}\n")
            repository.ok("git", "add", "notes.txt")
        if command[0] == "make":
            said[line] = repository.make(command[1])
        else:
            said[line] = repository.ok(*command)
    return said


def settle(repository: Repository) -> None:
    """Keeps one short task of the queue, runs it, and waits for it."""
    repository.ok("dvc", "queue", "remove", "--all")
    repository.ok("dvc", "exp", "run", "--queue", "--name", "task", "-S", "infer_steps=7")
    repository.ok("dvc", "queue", "start")
    deadline = time.monotonic() + 600
    while not repository.ok("git", "for-each-ref", "refs/exps/*/*/task"):
        assert time.monotonic() < deadline, repository.ok("dvc", "queue", "status")
        time.sleep(1)


def test_the_readme_and_the_page_on_experiments_work_as_they_stand(
    light: Repository, tmp_path: Path
) -> None:
    lines = [line for line in commands(PROJECT / "README.md") if line != ". .venv/bin/activate"]
    lines = [line for line in lines if not line.startswith("pip ")]
    run_page(light, lines, {}, {})
    light.ok("dvc", "queue", "remove", "--all")

    head = light.ok("git", "rev-parse", "--short", "HEAD").strip()
    listed = light.ok("python", "-m", "pttfaces", "history").splitlines()
    run = next(line.split()[0] for line in listed if "train " in line)
    clone, store = tmp_path / "pttfaces", tmp_path / "store"
    names = {"ADDRESS": str(light.path), "/mnt/shared/pttfaces": str(store), "TASK": "task"}
    names |= {"1a2b3c4": head, "3f2a91c0": run}
    lines = commands(PROJECT / "docs/experiments.md")
    here = lines[: lines.index("git clone ADDRESS pttfaces")]
    branch = light.ok("git", "branch", "--show-current").strip()

    def tidy() -> None:
        light.ok("git", "checkout", "--quiet", branch, ".")

    def back() -> None:
        light.ok("git", "checkout", "--quiet", branch)

    before = {
        "dvc queue status": lambda: settle(light),
        "dvc exp apply fine": tidy,
        "git checkout 1a2b3c4": lambda: light.ok("git", "checkout", "--quiet", "."),
        "git add --all": back,
    }
    said = run_page(light, here, names, before)
    assert "fine" in said["make experiments"]
    assert "random_feature_distance" in said["make experiments"]
    assert "data/" not in said["make experiments"]
    assert "bring back" in said["python src/history.py 3f2a91c0"]
    assert "dvc exp apply fine" in said["python src/history.py fine"]

    light.ok("git", "clone", "--quiet", str(light.path), str(clone))
    elsewhere = Repository(clone)
    elsewhere.ok("dvc", "pull")
    assert ran(elsewhere.ok("dvc", "repro")) == []
    weights = "models/ddpm/best_model/weights.bin"
    assert (clone / weights).read_bytes() == (light.path / weights).read_bytes()


def test_the_page_on_notebooks_works_as_it_stands(light: Repository, tmp_path: Path) -> None:
    there = Repository(tmp_path / "there")
    light.ok("git", "clone", "--quiet", str(light.path), str(there.path))
    lines = commands(PROJECT / "docs/notebook.md")
    at_home = lines[: lines.index("git clone ADDRESS pttfaces")]
    in_notebook = lines[
        lines.index("cd pttfaces") + 1 : lines.index("python src/pack.py --unpack bag.zip bag")
    ]
    home_again = lines[lines.index("python src/pack.py --unpack bag.zip bag") :]
    light.ok("dvc", "repro", "curate")
    run_page(light, [line for line in at_home if "commit" not in line], {}, {})
    shutil.move(light.path / "crops.zip", there.path)
    said = run_page(there, in_notebook, {}, {})
    assert ran(said["dvc repro --downstream train"]) in (STAGES[6:], [])
    shutil.move(there.path / "bag.zip", light.path)
    shutil.rmtree(light.path / "models/ddpm")
    run_page(light, home_again, {}, {})
    assert (light.path / "models/ddpm/best_model/weights.bin").exists()
    for repository in (light, there):  # what a later `git add --all` would take for ever
        assert "bag" not in repository.ok("git", "status", "--porcelain")
    (light.path / "bag.zip").unlink()  # other tests share this repository
    shutil.rmtree(light.path / "bag")
