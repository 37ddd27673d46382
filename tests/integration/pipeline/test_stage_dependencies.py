"""What DVC runs again after a change of code: the documented table, dvc.yaml, the imports."""

import ast
import compileall
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc.repo import Repo
from repository import PROJECT, STAGES, Repository, make_repository
from ruamel.yaml import YAML

SRC = PROJECT / "src"
PACKAGES = {path.name for path in (SRC / "pttfaces").iterdir() if (path / "__init__.py").exists()}
SHARED = {"http.py", "images.py", "denylist.py"}  # modules that decide results
# What a stage imports and does not depend on.
EXEMPT = {
    "train": {"sampling", "images.py"},  # progress images; PNG files that curate wrote
    "generate": {"images.py"},  # a PNG file of each sample, and a grid of some
}


def table() -> dict[str, set[str]]:
    """Stage → packages and modules, as CONTRIBUTING.md lists them."""
    text = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z, ]+) \| ([a-z_., ]+) \|$", text, re.MULTILINE)
    return {
        stage: set(units.split(", "))
        for stages, units in rows
        for stage in stages.split(", ")
        if stage in STAGES
    }


def dependencies() -> dict[str, set[str]]:
    """Stage → packages and modules, as dvc.yaml lists them."""
    stages = YAML(typ="safe").load(PROJECT / "dvc.yaml")["stages"]
    begin = "src/pttfaces/"
    return {
        stage: {dep.removeprefix(begin) for dep in stages[stage]["deps"] if dep.startswith(begin)}
        for stage in STAGES
    }


def imported(path: Path) -> Iterator[str]:
    """Packages and modules of pttfaces that a file imports, not counting those for type checks."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node not in for_types and node.module:
            for alias in node.names:
                parts = f"{node.module}.{alias.name}".split(".")
                if parts[0] == "pttfaces" and len(parts) > 1:
                    name = parts[1]
                    yield name if name in PACKAGES else f"{name}.py"


def reached(stage: str) -> set[str]:
    """What a stage's script imports, and what the packages among that import."""
    found, new = set(), set(imported(SRC / f"{stage}.py"))
    while new:
        found |= new
        files = (
            path for name in new & PACKAGES for path in (SRC / "pttfaces" / name).rglob("*.py")
        )
        new = {name for path in files for name in imported(path)} - found
    return found & (PACKAGES | SHARED)


def test_table_is_what_dvc_yaml_says() -> None:
    assert table() == dependencies()


@pytest.mark.parametrize("stage", STAGES)
def test_stage_depends_on_the_packages_that_it_imports(stage: str) -> None:
    assert reached(stage) - EXEMPT.get(stage, set()) == dependencies()[stage]


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The project's stages with their dependencies on code alone, which do nothing; run once."""
    made = make_repository(tmp_path_factory.mktemp("code"), {})
    yaml = YAML()
    pipeline = yaml.load(made.path / "dvc.yaml")
    stages = {}
    for name in STAGES:
        deps = [dep for dep in pipeline["stages"][name]["deps"] if dep.startswith("src/")]
        stages[name] = {"cmd": "python -c pass", "deps": deps}
    yaml.dump({"stages": stages}, made.path / "dvc.yaml")
    (made.path / "data/inputs.dvc").unlink()
    made.ok("dvc", "repro")
    return made


def test_dvc_status_after_a_change_of_code_names_the_stages_of_its_package(
    code: Repository,
) -> None:
    """One changed character is enough."""
    compileall.compile_dir(code.path / "src", quiet=2)  # as on users' machines
    units = sorted(PACKAGES | SHARED)
    expected, seen = {}, {}
    with Repo(str(code.path)) as repo:
        assert not repo.status(), "bytecode is no change"
        for unit in units:
            path = code.path / "src/pttfaces" / unit
            path = path / "__init__.py" if unit in PACKAGES else path
            before = path.read_bytes()
            path.write_bytes(before + b"#")
            seen[unit] = {name.rpartition(":")[2] for name in repo.status()}
            path.write_bytes(before)
            expected[unit] = {stage for stage, deps in dependencies().items() if unit in deps}
    assert seen == expected
    assert seen["demo"] == set()


def test_every_output_that_dvc_caches_is_ignored_by_git() -> None:
    """Else `git add --all` would commit images of people."""
    stages = YAML(typ="safe").load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    outs = [out for stage in stages.values() for out in stage["outs"]]
    paths = [Path(out if isinstance(out, str) else next(iter(out))) for out in outs]
    assert Path("data/crops") in paths
    for path in paths:
        ignored = (PROJECT / path.parent / ".gitignore").read_text(encoding="utf-8").splitlines()
        assert f"/{path.name}" in ignored, path
