"""The documents: their links lead somewhere, and their commands work as written.

Every command of every ```sh block is run in the light line, or is listed here with the test that
runs it, or is in CONTRIBUTING.md's list of commands that no test runs.
"""

import copy
import functools
import re
import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from repository import PROJECT, STAGES, Repository, ran

from pttfaces import config

pytestmark = pytest.mark.timeout(1500)

PAGES = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((PROJECT / "docs").glob("*.md"))
WALKED = ("README.md", "docs/experiments.md", "docs/notebook.md")  # below, from top to bottom
OWN_MACHINES = ("docs/cluster.md", "docs/upgrading.md")  # need a cluster, or a folder of 0.1
COMMANDS = {
    # command → the file that runs it, or the test in this one
    "make repro": "test_make_repro_ends_with_what_to_look_at",
    "make test": ".ci/run",
    "make check": ".ci/run",
    "make test-unit": ".github/workflows/ci.yml",
    "make test PYTEST_ADDOPTS=--cov=pttfaces": ".github/workflows/ci.yml",
    "make format": ".ci/run",  # fixes what make check finds
    "make docs": "test_params.py",
    "dvc repro": "test_whole_line.py",
    "dvc exp run -S 'board.year=[2022,2024]'": "test_boards_and_years.py",
    "dvc exp run --temp -S blur_threshold=150": "test_ways_to_run.py",
    "dvc queue start": "test_ways_to_run.py",
    "dvc queue status": "test_killed_experiments.py",
    "dvc queue logs TASK --follow": "test_killed_experiments.py",
    "dvc queue stop": "test_ways_to_run.py",
    "OMP_NUM_THREADS=1 dvc queue start -j 2": "test_ways_to_run.py",
    "pttfaces preset best": "test_preset.py",
    "pttfaces preset photos": "test_preset.py",
    "PYTHONPATH=src python benchmarks/timesteps.py": "benchmarks/timesteps.py",
}
FAMILIES = {
    # how commands begin → the file that runs them
    "dvc exp run --queue": "test_ways_to_run.py",
    "pttfaces forget": "test_whole_line_forgets.py",
    "pttfaces trace": "test_whole_line_forgets.py",
    "pttfaces distance": "test_evaluate_stage.py",
    "PYTHONPATH=src python benchmarks/": "benchmarks",
    "PYTHONPATH=src OMP_NUM_THREADS=1 python benchmarks/": "benchmarks",
}


def commands(page: Path) -> list[str]:
    """The lines of a page's sh blocks without comments; `&&` separates two."""
    found = []
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M):
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"(^|\s)#\s.*", "", line).strip()
            found += [part.strip() for part in line.split("&&") if part.strip()]
    return found


def not_run() -> set[str]:
    """CONTRIBUTING.md's list of commands that no test runs."""
    text = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```text\n(.*?)^```", text, re.S | re.M)
    return set(block.splitlines())


def known(command: str) -> bool:
    return command in COMMANDS or any(command.startswith(start) for start in FAMILIES)


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        place = page.parent / path if path else page
        assert place.exists(), target
        if anchor:
            assert anchor in anchors(place), target


def test_page_is_linked_from_the_readme_or_another_page() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    for page in PAGES[1:]:
        name = page.relative_to(PROJECT).as_posix()
        linking = [p for p in PAGES if p != page and page.name in p.read_text(encoding="utf-8")]
        assert name in readme or linking, name


def test_command_tables_name_files_that_exist() -> None:
    known_tests = {path.name for path in (PROJECT / "tests").rglob("test_*.py")}
    for place in [*COMMANDS.values(), *FAMILIES.values()]:
        assert place in known_tests or place in globals() or (PROJECT / place).exists(), place
    ci = (PROJECT / ".ci/run").read_text(encoding="utf-8")
    assert {"make check", "make test"} <= set(ci.splitlines())


def test_page_has_only_commands_that_are_run_or_listed() -> None:
    walked = {command for page in WALKED for command in commands(PROJECT / page)}
    for page in PAGES:
        if page.relative_to(PROJECT).as_posix() not in OWN_MACHINES:
            new = [line for line in commands(page) if line not in walked and not known(line)]
            assert set(new) <= not_run(), page.name


def test_page_s_settings_of_experiments_are_parameters_and_values_that_exist() -> None:
    preset = config.read(PROJECT / "presets/demo.yaml")
    for line in (line for page in PAGES for line in commands(page)):
        for key, values in re.findall(r"-S '?([\w.]+)=([^\s']+)", line):
            for value in [values] if values.startswith("[") else values.split(","):
                changed = copy.deepcopy(preset)
                *groups, last = key.split(".")
                functools.reduce(dict.get, groups, changed)[last] = config.parse(value)
                config.check(changed, line)


def test_page_names_no_command_of_version_0_1() -> None:
    """But the table of renamed commands, and the change log."""
    stages = {path.stem for path in (PROJECT / "src").glob("*.py")}
    for page in PAGES:
        if page.name not in ("upgrading.md", "CHANGELOG.md"):
            text = page.read_text(encoding="utf-8")
            scripts = re.findall(r"\bsrc/(\w+)\.py\b", text)
            assert set(scripts) <= stages, page.name


def test_make_repro_ends_with_what_to_look_at(light: Repository) -> None:
    lines = light.make("repro").splitlines()
    assert [line.split("  ")[0] for line in lines[-3:]] == ["Look at", "Read", "Browse"]
    for line in lines[-3:-1]:
        assert (light.path / line.split()[2 if line.startswith("Look") else 1]).exists()


def run_page(
    repository: Repository,
    lines: list[str],
    names: dict[str, str],
    before: Mapping[str, Callable[[], object]],
) -> dict[str, str]:
    """Runs a page's commands in order and returns the output of each.

    names: placeholder → its value. before: command → what to call before it, such as waiting.
    """
    outputs, skipped = {}, not_run()
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
            outputs[line] = repository.make(command[1])
        elif command[0] == "pttfaces":
            outputs[line] = repository.pttfaces(*command[1:])
        else:
            outputs[line] = repository.ok(*command)
    return outputs


def test_readme_and_the_page_on_experiments_work_as_written(
    light: Repository, tmp_path: Path
) -> None:
    lines = commands(PROJECT / "docs/experiments.md")
    readme = commands(PROJECT / "README.md")
    run_page(light, [line for line in readme if line[:3] == "git" or line not in lines], {}, {})

    head = light.ok("git", "rev-parse", "--short", "HEAD").strip()
    listed = light.pttfaces("history").splitlines()
    run = [line.split()[0] for line in listed if "train " in line][-1]  # the first run's
    clone, store = tmp_path / "pttfaces", tmp_path / "store"
    names = {"ADDRESS": str(light.path), "/mnt/shared/pttfaces": str(store)}
    names |= {"1a2b3c4": head, "3f2a91c0": run}
    here = lines[: lines.index("git clone ADDRESS pttfaces")]
    branch = light.ok("git", "branch", "--show-current").strip()

    def tidy() -> None:
        light.ok("git", "checkout", "--quiet", branch, ".")

    def back() -> None:
        light.ok("git", "checkout", "--quiet", branch)

    before = {
        "dvc exp apply fine": tidy,
        "git checkout 1a2b3c4": lambda: light.ok("git", "checkout", "--quiet", "."),
        "git add --all": back,
    }
    outputs = run_page(light, here, names, before)
    assert "fine" in outputs["make experiments"]
    assert "random_feature_distance" in outputs["make experiments"]
    assert "data/" not in outputs["make experiments"]
    ways = ("dvc exp apply", "git checkout", "nothing to do")
    assert any(way in outputs["pttfaces history 3f2a91c0"] for way in ways)
    assert "dvc exp apply fine" in outputs["pttfaces history fine"]

    light.ok("git", "clone", "--quiet", str(light.path), str(clone))
    other = Repository(clone)
    other.ok("dvc", "pull")
    assert ran(other.ok("dvc", "repro")) == []
    weights = "models/ddpm/best_model/weights.bin"
    assert (clone / weights).read_bytes() == (light.path / weights).read_bytes()


def test_page_on_notebooks_works_as_written(light: Repository, tmp_path: Path) -> None:
    there = Repository(tmp_path / "there")
    light.ok("git", "clone", "--quiet", str(light.path), str(there.path))
    lines = commands(PROJECT / "docs/notebook.md")
    at_home = lines[: lines.index("git clone ADDRESS pttfaces")]
    in_notebook = lines[
        lines.index("cd pttfaces") + 1 : lines.index("pttfaces pack --unpack bag.zip bag")
    ]
    home_again = lines[lines.index("pttfaces pack --unpack bag.zip bag") :]
    light.ok("dvc", "repro", "curate")
    run_page(light, [line for line in at_home if "commit" not in line], {}, {})
    shutil.move(light.path / "crops.zip", there.path)
    outputs = run_page(there, in_notebook, {}, {})
    assert ran(outputs["dvc repro --downstream train"]) in (STAGES[6:], [])
    shutil.move(there.path / "bag.zip", light.path)
    shutil.rmtree(light.path / "models/ddpm")
    run_page(light, home_again, {}, {})
    assert (light.path / "models/ddpm/best_model/weights.bin").exists()
    for repository in (light, there):  # a later `git add --all` would commit it
        assert "bag" not in repository.ok("git", "status", "--porcelain")
    (light.path / "bag.zip").unlink()  # other tests share this repository
    shutil.rmtree(light.path / "bag")
