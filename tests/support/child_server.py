"""A server as a child process: started in a process group of its own, awaited, ended."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

Server = subprocess.Popen[bytes]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def served(command: list[str], folder: Path, **environment: str) -> Iterator[Server]:
    """`python -m COMMAND` in a folder that gets its log."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC_"))}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=kept | environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield server
    finally:
        end(server)


def opened(server: Server, request: str | urllib.request.Request) -> Any:
    """The answer of a server that may still be starting."""
    deadline = time.monotonic() + 250
    while True:
        try:
            return urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as error:
            pytest.fail(error.read().decode())
        except OSError:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)


def end(server: Server) -> None:
    """Ends a server with its workers."""
    if server.poll() is None:
        if sys.platform == "win32":
            server.kill()
        else:
            os.killpg(server.pid, 9)
        server.wait()
