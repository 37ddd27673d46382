"""How a stage or a command starts and ends: one sentence for a user's mistake, exit code 2.

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
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

try:
    from pttfaces import files, repository, workdir
    from pttfaces.errors import ParamsError, PttFacesError, printable
except ModuleNotFoundError as missing:  # dvc starts whatever `python` comes first
    print(
        f"error: {sys.executable} has no {missing.name}; activate the project's environment first: "
        ". .venv/bin/activate (Windows: .venv\\Scripts\\activate).",
        file=sys.stderr,
    )
    sys.exit(2)

LAUNCHER = "PTTFACES_LAUNCHER"
"""The variable that says how to start a stage on several processes: "torchrun --nproc-per-node 4".

In the environment, not in the stage's command: that is the same on every machine for dvc.lock."""

_STOPPED = "stopped; what is done is kept: run the same command to go on."
_MISTAKE, _INTERRUPTED = 2, 130
_WATCH_S = 0.2

# Torch, diffusers and MLflow make a million objects that all stay; to look for garbage among them
# every 700 takes a sixth of a stage's start.
gc.set_threshold(100_000)

_FULL_DISK = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}


def run(main: Callable[[], None]) -> NoReturn:
    """Runs a command and ends the process: 0 done, 2 a person's mistake, 130 interrupted.

    A SIGTERM is treated as Ctrl-C, so that `finally` blocks run. Other errors keep their stack
    trace: they are bugs.
    """
    for stream in (sys.stdout, sys.stderr):  # titles are Chinese; a Windows console may not be
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        main()
    except PttFacesError as error:
        _leave(f"error: {error}", _MISTAKE)
    except KeyboardInterrupt:
        _leave(_STOPPED, _INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_INTERRUPTED)
    except OSError as error:
        if error.errno in _FULL_DISK:
            _leave(
                "error: the disk is full; make room and run the same command to go on.", _MISTAKE
            )
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            denied = f"error: no permission for {error.filename}; make it writable and try again."
            _leave(denied, _MISTAKE)
        raise
    except Exception:
        if _stop_asked.is_set():
            _leave(_STOPPED, _INTERRUPTED)
        raise
    # While Python cleans up, a SIGTERM would have dvc take for failed what is done.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


def run_stage(main: Callable[[], None]) -> NoReturn:
    """Runs a stage of the line as `run` does, alone in its working folder, and no longer than
    the dvc that started it.

    Where dvc is killed, its stage would go on; the next `dvc repro` starts the same stage a second
    time, and the two would write the same outs. Of several processes that share one stage
    (torchrun's RANK), the first holds the lock for all.
    """
    stage = Path(sys.argv[0]).stem
    _stop_with_dvc()

    def with_lock() -> None:
        if os.environ.get("RANK", "0") != "0":
            return main()
        with workdir.exclusive(stage, f"stage-{stage}-{files.digest_json(str(Path.cwd()))[:16]}"):
            workdir.remove_recorded_work()
            with _settings_that_stay(stage):
                return main()

    run(with_lock)


@contextmanager
def _settings_that_stay(stage: str) -> Iterator[None]:
    """ParamsError at the end of the block: params.yaml has other values for the stage by now. dvc
    reads them when the stage has ended, and would note them down for what the old ones gave."""
    place = Path("params.yaml")
    before = place.read_bytes() if place.exists() else b""
    yield
    after = place.read_bytes() if place.exists() else b""
    if after == before:
        return
    was, now = (
        repository.stage_params(stage, text.decode(errors="replace")) for text in (before, after)
    )
    if changed := [key for key in was | now if was.get(key) != now.get(key)]:
        key = changed[0]
        raise ParamsError(
            f"params.yaml was changed while {stage} ran ({key} was {was.get(key)}, is "
            f"{now.get(key)}), and dvc would note the new values down for what the old ones gave; "
            "run the same command again."
        )


def run_stage_on_processes(main: Callable[[], None]) -> NoReturn:
    """As `run_stage`; where the environment names a launcher, it starts the stage's processes."""
    launcher = os.environ.get(LAUNCHER, "").strip()
    if not launcher or "RANK" in os.environ:  # alone, or one of those that it started
        run_stage(main)

    def launch() -> None:
        words = [word.strip('"') for word in shlex.split(launcher, posix=os.name != "nt")]
        # Without the variable: what starts a single process sets no RANK, and that one would start
        # the next.
        others = {key: value for key, value in os.environ.items() if key != LAUNCHER}
        try:
            started = subprocess.Popen([*words, *sys.argv], env=others)
        except (FileNotFoundError, PermissionError):
            raise ParamsError(
                f"{LAUNCHER} is {launcher!r}, which cannot be started; it should be a launcher of "
                "processes with its options, such as torchrun --nproc-per-node 2."
            ) from None
        try:
            code = started.wait()
        except BaseException:  # a signal: let it end what it has started
            started.terminate()
            started.wait()
            raise
        if code:
            sys.exit(_MISTAKE)

    _stop_with_dvc()
    run(launch)


def _stop_with_dvc() -> None:
    """Ends this process as a SIGTERM does as soon as the dvc that started it is gone: nobody would
    note in dvc.lock what it makes from then on. A stage that was started by hand has no such bond.
    Windows does not tell when a parent has ended.
    """
    if "DVC_ROOT" not in os.environ or os.name == "nt":
        return
    dvc = os.getppid()

    def watch() -> None:
        while os.getppid() == dvc:
            time.sleep(_WATCH_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="watch over dvc", daemon=True).start()


def _interrupt(*_: object) -> None:
    _stop_asked.set()
    raise KeyboardInterrupt


def _leave(sentence: str, code: int) -> NoReturn:
    print(printable(sentence), file=sys.stderr)
    sys.exit(code)


def _stopped_early(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """What an exception outside of `run` prints."""
    if _stop_asked.is_set() or issubclass(kind, KeyboardInterrupt):
        print(_STOPPED, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


_stop_asked = threading.Event()  # libraries in Rust or C turn the KeyboardInterrupt into others
signal.signal(signal.SIGTERM, _interrupt)
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _interrupt)
sys.excepthook = _stopped_early
