"""Runs a stage or a command; a user's mistake ends it with one sentence and exit code 2.

Scripts import this first: from then on Ctrl-C and SIGTERM end in a sentence, also while slower
imports are still running.
"""

import errno
import gc
import io
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

try:
    from pttfaces import files, repository, workdir
    from pttfaces.errors import ParamsError, PttFacesError, printable
except ModuleNotFoundError as missing:  # DVC starts the first `python` on the PATH
    print(
        f"error: {sys.executable} has no {missing.name}; activate the project's environment first: "
        ". .venv/bin/activate (Windows: .venv\\Scripts\\activate).",
        file=sys.stderr,
    )
    sys.exit(2)

LAUNCHER = "PTTFACES_LAUNCHER"
"""The variable that says how to start a stage on several processes: "torchrun --nproc-per-node 4".

It is in the environment and not in the stage's command, which dvc.lock records: that has to be the
same on every machine."""

_INTERRUPTED = "Interrupted. Progress is saved; run the same command to resume."
_MISTAKE_CODE, _INTERRUPTED_CODE = 2, 130

# Torch, diffusers and MLflow create a million objects that all stay. Collecting garbage among them
# after every 700 allocations takes a sixth of a stage's start.
gc.set_threshold(100_000)

_FULL_DISK = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}


def run(main: Callable[[], None]) -> NoReturn:
    """Runs a command and ends the process: 0 done, 2 a user's mistake, 130 interrupted.

    A SIGTERM is treated as Ctrl-C, so that `finally` blocks run. Other errors keep their stack
    trace: they are bugs.
    """
    for stream in (sys.stdout, sys.stderr):  # titles are Chinese; a Windows console may lack it
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        main()
    except PttFacesError as error:
        _exit(f"error: {error}", _MISTAKE_CODE)
    except KeyboardInterrupt:
        _exit(_INTERRUPTED, _INTERRUPTED_CODE)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_INTERRUPTED_CODE)
    except OSError as error:
        if error.errno in _FULL_DISK:
            full = "error: the disk is full; free some space and run the same command to resume."
            _exit(full, _MISTAKE_CODE)
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            denied = f"error: no permission for {error.filename}; make it writable and try again."
            _exit(denied, _MISTAKE_CODE)
        raise
    except Exception:
        if _stop_requested.is_set():
            _exit(_INTERRUPTED, _INTERRUPTED_CODE)
        raise
    # The work is done: a stop while Python cleans up must not look like a failure.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)


def run_stage(main: Callable[[], None]) -> NoReturn:
    """Runs a stage as `run` does, alone in its working folder.

    When DVC is killed, its stage continues; the same stage of the next `dvc repro` waits for it. Of
    several processes that share one stage (torchrun's RANK), the first holds the lock for all.
    """
    stage = Path(sys.argv[0]).stem

    def with_lock() -> None:
        if os.environ.get("RANK", "0") != "0":
            return main()
        with workdir.exclusive(stage, f"stage-{stage}-{files.digest_json(str(Path.cwd()))[:16]}"):
            workdir.remove_recorded_work()
            with _check_params_unchanged(stage):
                return main()

    run(with_lock)


@contextmanager
def _check_params_unchanged(stage: str) -> Iterator[None]:
    """ParamsError at the end of the block if the stage's values in params.yaml have changed.

    DVC reads them when the stage has ended, and would record the new ones for the old result.
    """
    path = Path("params.yaml")
    before = path.read_bytes() if path.exists() else b""
    yield
    after = path.read_bytes() if path.exists() else b""
    if after == before:
        return
    was, now = (
        repository.stage_params(stage, text.decode(errors="replace")) for text in (before, after)
    )
    if changed := [key for key in was | now if was.get(key) != now.get(key)]:
        key = changed[0]
        raise ParamsError(
            f"params.yaml was changed while {stage} ran ({key} was {was.get(key)}, now "
            f"{now.get(key)}); DVC would record the new values for the old result. Run the same "
            "command again."
        )


def run_stage_on_processes(main: Callable[[], None]) -> NoReturn:
    """As `run_stage`; where the environment names a launcher, it starts the stage's processes."""
    launcher = os.environ.get(LAUNCHER, "").strip()
    if not launcher or "RANK" in os.environ:  # a single process, or one that it started
        run_stage(main)

    def launch() -> None:
        words = [word.strip('"') for word in shlex.split(launcher, posix=os.name != "nt")]
        # Without the variable: a launcher that starts a single process sets no RANK, and that
        # process would start the next.
        others = {key: value for key, value in os.environ.items() if key != LAUNCHER}
        try:
            started = subprocess.Popen([*words, *sys.argv], env=others)
        except (FileNotFoundError, PermissionError):
            raise ParamsError(
                f"{LAUNCHER} is {launcher!r}, which cannot be started; set it to a process "
                "launcher and its options, such as torchrun --nproc-per-node 2."
            ) from None
        try:
            code = started.wait()
        except BaseException:  # a signal: stop the processes, too
            started.terminate()
            started.wait()
            raise
        if code:
            sys.exit(_MISTAKE_CODE)

    run(launch)


def _interrupt(*_: object) -> None:
    _stop_requested.set()
    raise KeyboardInterrupt


def _exit(sentence: str, code: int) -> NoReturn:
    print(printable(sentence), file=sys.stderr)
    sys.exit(code)


def _print_exception(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Prints an exception raised outside `run`; for an interruption, one sentence."""
    if _stop_requested.is_set() or issubclass(kind, KeyboardInterrupt):
        print(_INTERRUPTED, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


_stop_requested = threading.Event()  # libraries in Rust or C turn KeyboardInterrupt into others
signal.signal(signal.SIGTERM, _interrupt)
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _interrupt)
sys.excepthook = _print_exception
