"""Which packages may import which: the pipeline's order holds in the code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src/pttfaces"
STAGE_PACKAGES = [
    *("board", "download", "faces", "curation"),
    *("diffusion", "training", "sampling", "evaluation"),
]
NEVER = {"tracking", "mlflow_model", "mlflow_store", "stage", "cli", "erasure", "report"}
ABOVE = {  # package → what it must not import
    **{package: {*NEVER, "demo"} for package in STAGE_PACKAGES},
    "demo": {*STAGE_PACKAGES, *NEVER, "source"},
}
BELOW = {  # package → the other stages' packages that it may import
    "board": set(),
    "download": set(),
    "faces": set(),
    "curation": {"faces"},
    "diffusion": set(),
    "training": {"diffusion", "sampling"},
    "sampling": {"diffusion"},
    "evaluation": {"faces", "diffusion", "sampling"},
}


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of every import in a file, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


def of_package(name: str) -> Iterator[tuple[Path, str, str]]:
    for path in sorted((PACKAGE / name).rglob("*.py")):
        yield from ((path, module, imported) for module, imported in imports(path))


def unit(module: str, name: str) -> str:
    """The package or module of pttfaces that an import leads to; "" for another library."""
    parts = [*module.split("."), name]
    return parts[1] if parts[0] == "pttfaces" else ""


@pytest.mark.parametrize("package", [*STAGE_PACKAGES, "demo"])
def test_package_imports_only_what_lies_below_it(package: str) -> None:
    for path, module, name in of_package(package):
        found = unit(module, name)
        assert found not in ABOVE[package], f"{path} imports {found}"
        assert module.split(".")[0] not in ("dvc", "mlflow"), f"{path} imports {module}"
        if package != "demo" and found in STAGE_PACKAGES and found != package:
            assert found in BELOW[package], f"{path} imports {found}"


def test_demo_is_imported_by_the_source_and_the_command_alone() -> None:
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.parent.glob("*.py")]:
        if PACKAGE / "demo" in path.parents or path.name in ("source.py", "cli.py"):
            continue
        assert "demo" not in {unit(module, name) for module, name in imports(path)}, path


def test_package_uses_no_private_names_of_another() -> None:
    for path in PACKAGE.rglob("*.py"):
        for module, name in imports(path):
            private = [part for part in (*module.split("."), name) if part.startswith("_")]
            assert not unit(module, name) or not set(private) - {"__version__"}, (
                f"{path}: {private}"
            )
