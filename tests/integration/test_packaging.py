"""What a wheel installs: the package with its templates and one command, nothing else."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(PROJECT)], check=True)
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_has_the_package_its_templates_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (points,) = (name for name in names if name.endswith("entry_points.txt"))
        commands = archive.read(points).decode().splitlines()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"pttfaces"}
    packaged = {name for name in names if name.startswith("pttfaces/")}
    source = PROJECT / "src/pttfaces"
    assert packaged == {
        f"pttfaces/{path.relative_to(source).as_posix()}"
        for path in source.rglob("*")
        if path.suffix in (".py", ".jinja", ".md")
    }
    assert commands == ["[console_scripts]", "pttfaces = pttfaces.cli:main"]


def run(wheel: Path, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(wheel)}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=environment, cwd=cwd
    )


def test_command_outside_of_a_checkout_prints_one_line_and_exits_with_2(
    wheel: Path, tmp_path: Path
) -> None:
    for words in (["history"], ["report"], ["preset", "demo"], ["forget", "--purge"]):
        ended = run(wheel, "-m", "pttfaces", *words, cwd=tmp_path)
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"error: {tmp_path} is not a checkout of PTT Faces;")
        assert ended.stderr.count("\n") == 1
    assert run(wheel, "-m", "pttfaces", "--help", cwd=tmp_path).returncode == 0
    assert run(wheel, "-m", "pttfaces", "report", "--help", cwd=tmp_path).returncode == 0


def test_template_is_found_in_an_installed_package(wheel: Path, tmp_path: Path) -> None:
    program = (
        "from jinja2 import Environment, PackageLoader\n"
        "loader = PackageLoader('pttfaces.report', '')\n"
        "Environment(loader=loader).get_template('page.html.jinja')\n"
    )
    ended = run(wheel, "-c", program, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    "words", [[], ["nonesuch"], ["history", "a", "b", "c"], ["pack"], ["forget"]]
)
def test_command_when_used_wrongly_prints_its_usage_and_exits_with_2(words: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pttfaces", *words],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PROJECT / "src")},
        cwd=PROJECT,
    )
    assert ended.returncode == 2
    assert "Usage: pttfaces" in ended.stderr
    assert "Traceback" not in ended.stderr
