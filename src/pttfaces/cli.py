"""How every command of `src/` starts and ends: one sentence for a person's mistake, exit code 2."""

import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from pttfaces import files
from pttfaces.errors import PttFacesError

_MISTAKE, _INTERRUPTED = 2, 130
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}


def run(main: Callable[[], None]) -> NoReturn:
    """Runs a command and ends the process: 0 done, 2 a person's mistake, 130 interrupted.

    A SIGTERM is treated as Ctrl-C, so that `finally` blocks run. Other errors keep their stack
    trace: they are bugs.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):  # titles are Chinese; a Windows console may not be
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        main()
    except PttFacesError as error:
        _leave(f"error: {error}", _MISTAKE)
    except KeyboardInterrupt:
        _leave("stopped; what is done is kept: run the same command to go on.", _INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_INTERRUPTED)
    except OSError as error:
        if error.errno in _FULL_DISK:
            _leave("error: the disk is full; make room and run the same command to go on.", 2)
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            _leave(f"error: no permission for {error.filename}; make it writable and try again.", 2)
        raise
    sys.exit(0)


def run_stage(main: Callable[[], None]) -> NoReturn:
    """Runs a stage of the line as `run` does, alone in its working folder.

    Where dvc is killed, its stage goes on; the next `dvc repro` starts the same stage a second
    time, and the two would write the same outs. Of several processes that share one stage
    (torchrun's RANK), the first holds the lock for all.
    """
    stage = Path(sys.argv[0]).stem

    def with_lock() -> None:
        if os.environ.get("RANK", "0") != "0":
            return main()
        with files.alone(stage, f"stage-{stage}-{files.digest_json(str(Path.cwd()))[:16]}"):
            return main()

    run(with_lock)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _leave(sentence: str, code: int) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(code)
