"""Finds a network's weights file: where the user put it, where it is cached, or on the web."""

import hashlib
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

from pttfaces import files, workdir
from pttfaces.errors import WeightsError
from pttfaces.http import LoopbackHosts, ssl_context, user_agent
from pttfaces.progress import progress

_CHUNK = 1 << 18  # bytes
_TIMEOUT_S = 60  # to connect, and between two chunks


def find(
    name: str,
    given: str | None,
    candidates: Sequence[Path],
    url: str | None,
    sha256: str | None,
    key: str | None = None,
    hosts: LoopbackHosts | None = None,
) -> Path:
    """The weights file called `name`, with its digest checked.

    given: the path that the user named, as `workdir.find_file` finds it; if set, no other is used.
    candidates: where the file may be already, in order of preference; a download goes to the first.
    url: where the file is published; None: it cannot be downloaded.
    sha256: the expected digest, or its first hex digits; None: no digest was ever published.
    key: the parameter that names the file, for messages ("detect.weights").

    Raises WeightsError: no such file and no download, or a file with another digest.
    """
    advice = f"set {key} to the file" if key else "name the file"
    if given is not None:
        path = workdir.find_file(given)
        if not path.is_file():
            raise WeightsError(
                f"{name}: the weights file {path} does not exist; put it there, or correct "
                f"{key or 'the path'}."
            )
        _check(path, name, sha256, f"put the right file there, or correct {key or 'the path'}")
        return path
    for path in candidates:
        if path.is_file():
            _check(path, name, sha256, "delete it and run the same command again")
            return path
    target = candidates[0]
    if url is None:
        raise WeightsError(f"{name}: there is no weights file; put it at {target}, or {advice}.")
    _download(name, url, target, sha256, advice, hosts or LoopbackHosts())
    return target


def _download(
    name: str, url: str, target: Path, sha256: str | None, advice: str, hosts: LoopbackHosts
) -> None:
    address, headers = hosts.resolve(url)
    request = urllib.request.Request(address, headers={"User-Agent": user_agent(), **headers})
    try:
        with urllib.request.urlopen(request, None, _TIMEOUT_S, context=ssl_context()) as response:
            length = int(response.headers.get("Content-Length") or 0)
            digest = hashlib.sha256()
            with (
                files.atomic(target) as handle,
                progress(f"download {name}", length or None, " bytes") as bar,
            ):
                while chunk := response.read(_CHUNK):
                    handle.write(chunk)
                    digest.update(chunk)
                    bar.update(len(chunk))
                if response.length:  # bytes that have not come
                    raise ConnectionError
                # Inside the block, so that a wrong file never gets its name.
                _compare(digest.hexdigest(), f"what {url} serves", name, sha256, advice)
    except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
        raise WeightsError(
            f"{name}: its weights are not on this machine, and {url} cannot be downloaded "
            f"({_reason(error)}); put the file at {target}, or {advice}."
        ) from None


def _check(path: Path, name: str, sha256: str | None, remedy: str) -> None:
    _compare(files.digest_file(path), str(path), name, sha256, remedy)


def _compare(found: str, what: str, name: str, sha256: str | None, remedy: str) -> None:
    if sha256 is not None and not found.startswith(sha256.lower()):
        raise WeightsError(
            f"{name}: {what} is not the expected weights file (its SHA-256 begins with "
            f"{found[:16]}, expected {sha256[:16]}); {remedy}."
        )


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    is_late = isinstance(getattr(error, "reason", error), TimeoutError)
    return "no answer in time" if is_late else "no connection"
