"""How a command ends: one sentence and exit code 2 for a mistake, a stack trace for a bug."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def run(tmp_path: Path, body: str) -> subprocess.CompletedProcess[str]:
    program = tmp_path / "command.py"
    program.write_text(
        "import os, signal, time\n"
        "from pttfaces import files, stage\n"
        "from pttfaces.errors import DataError\n"
        # A shell starts background jobs with SIGINT ignored, and these tests may run in one.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"def main():\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"
        "if __name__ == '__main__':\n    stage.run(main)\n"
    )
    return subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path("src").resolve())},
        cwd=tmp_path,
    )


def test_stage_run_of_a_mistake_prints_one_line_and_exits_with_2(tmp_path: Path) -> None:
    ended = run(tmp_path, "raise DataError('data/raw is empty; run crawl.')")
    assert (ended.returncode, ended.stderr) == (2, "error: data/raw is empty; run crawl.\n")


def test_stage_run_of_an_error_with_control_characters_escapes_them(tmp_path: Path) -> None:
    ended = run(tmp_path, r"raise DataError('title \x1b[2J\u202egpj.exe\u2028 is 表特 😀\u200d')")
    assert ended.stderr == "error: title \\x1b[2J\\u202egpj.exe\\u2028 is 表特 😀\u200d\n"


def test_stage_run_of_a_bug_keeps_the_stack_trace(tmp_path: Path) -> None:
    ended = run(tmp_path, "raise ValueError('bug')")
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr


def test_stage_run_of_success_exits_with_0(tmp_path: Path) -> None:
    assert run(tmp_path, "print('done')").returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals between processes")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_stage_run_when_stopped_runs_finally_blocks_and_says_how_to_resume(
    tmp_path: Path, name: str
) -> None:
    ended = run(
        tmp_path,
        f"""
        try:
            os.kill(os.getpid(), signal.{name})
            time.sleep(5)
        finally:
            print("closed")
        """,
    )
    assert ended.returncode == 130
    assert ended.stdout == "closed\n"
    assert ended.stderr == "Interrupted. Progress is saved; run the same command to resume.\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals between processes")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_stage_run_when_stopped_after_its_work_ends_as_done(tmp_path: Path, name: str) -> None:
    ended = run(
        tmp_path,
        f"""
        import atexit
        atexit.register(os.kill, os.getpid(), signal.{name})
        """,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_stage_when_stopped_while_it_imports_says_how_to_resume(tmp_path: Path) -> None:
    program = "from pttfaces import stage\nimport os, signal\n"
    program += "os.kill(os.getpid(), signal.SIGTERM)\n"
    ended = subprocess.run(
        [sys.executable, "-c", program + "import time\ntime.sleep(9)"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": "src"},
    )
    assert ended.returncode != 0
    assert ended.stderr == "Interrupted. Progress is saved; run the same command to resume.\n"


WRAPPED = """
try:
    os.kill(os.getpid(), signal.{name})
    time.sleep(9)
except KeyboardInterrupt:
    raise ValueError("as a library in Rust does") from None
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals between processes")
@pytest.mark.parametrize("when", ["importing", "at work"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_stage_when_a_library_turns_a_stop_into_an_error_says_how_to_resume(
    tmp_path: Path, name: str, when: str
) -> None:
    body = WRAPPED.format(name=name)
    program = f"def main():\n{textwrap.indent(body, '    ')}\nstage.run(main)\n"
    head = "import os, signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    head += "from pttfaces import stage\n"
    ended = subprocess.run(
        [sys.executable, "-c", head + (program if when == "at work" else body)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": "src"},
    )
    assert ended.returncode == (130 if when == "at work" else 1)
    assert ended.stderr == "Interrupted. Progress is saved; run the same command to resume.\n"


def test_run_stage_while_another_process_runs_it_waits(tmp_path: Path) -> None:
    """As for one that a killed dvc has left behind."""
    program = tmp_path / "crop.py"
    program.write_text(
        "import time\n"
        "from pathlib import Path\n"
        "from pttfaces import stage\n"
        "def main():\n"
        "    assert not Path('at_work').exists()\n"
        "    Path('at_work').touch()\n"
        "    print('at work', flush=True)\n"
        "    while not Path('go_on').exists():\n"
        "        time.sleep(0.01)\n"
        "    Path('at_work').unlink()\n"
        "stage.run_stage(main)\n"
    )
    command = [sys.executable, str(program)]
    environment = os.environ | {"PYTHONPATH": str(Path("src").resolve())}
    first = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE)
    assert first.stdout is not None
    first.stdout.readline()
    second = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert second.stderr is not None
    assert (
        second.stderr.readline()
        == "crop: waiting for another process that uses the same site or files.\n"
    )
    (tmp_path / "go_on").touch()
    assert (first.wait(60), second.wait(60)) == (0, 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(("key", "told"), [("epochs", True), ("save_every_minutes", False)])
def test_run_stage_when_its_parameters_change_meanwhile_names_them(
    tmp_path: Path, key: str, told: bool
) -> None:
    """dvc reads them when the stage has ended. What the stage does not depend on may change."""
    (tmp_path / "params.yaml").write_text("train:\n  epochs: 60\n  save_every_minutes: 1\n")
    (tmp_path / "dvc.yaml").write_text("stages:\n  train:\n    params: [seed, train.epochs]\n")
    (tmp_path / "train.py").write_text(
        "from pathlib import Path\n"
        "from pttfaces import stage\n"
        "def main():\n"
        "    place = Path('params.yaml')\n"
        f"    place.write_text(place.read_text().replace('{key}: ', '{key}: 7'))\n"
        "    print('trained')\n"
        "if __name__ == '__main__':\n    stage.run_stage(main)\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DVC_")}
    ended = subprocess.run(
        [sys.executable, "train.py"],
        capture_output=True,
        text=True,
        env=environment | {"PYTHONPATH": str(Path("src").resolve())},
        cwd=tmp_path,
    )
    assert ended.stdout == "trained\n"
    assert ended.returncode == (2 if told else 0), ended.stderr
    sentence = "params.yaml was changed while train ran (train.epochs was 60, now 760)"
    assert (sentence in ended.stderr) == told
    assert "Traceback" not in ended.stderr


def test_stage_run_on_a_full_disk_says_so_and_exits_with_2(tmp_path: Path) -> None:
    ended = run(tmp_path, "os.write(os.open('/dev/full', os.O_WRONLY), b'x')")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: the disk is full")


def test_progress_in_a_log_is_plain_lines_with_rate_and_time_left(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        from pttfaces.progress import progress
        with progress("download", 4, " pictures") as bar:
            for _ in range(4):
                bar.update()
        """,
    )
    assert "\r" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("download: 4 of 4 pictures, ")
    assert "left" in ended.stderr


@pytest.mark.parametrize("script", sorted(Path("src").glob("*.py")), ids=lambda path: path.stem)
def test_stage_script_without_the_packages_says_to_activate_the_environment(
    tmp_path: Path, script: Path
) -> None:
    command = [sys.executable, "-S", str(script.resolve())]  # without site-packages
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "activate the project's environment first" in ended.stderr
    assert "Traceback" not in ended.stderr
