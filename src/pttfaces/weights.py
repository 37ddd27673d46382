"""Finds a network's weights file: where the user put it, where it is cached, or on the web."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from pttfaces import files, workdir
from pttfaces.errors import WeightsError
from pttfaces.http import LoopbackHosts, ssl_context, user_agent
from pttfaces.progress import progress

_CHUNK = 1 << 18  # bytes
_TIMEOUT_S = (10, 60)  # to connect; between two chunks


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
    try:
        with requests.Session() as session:
            session.mount("https://", _OurCertificates())
            headers = {"User-Agent": user_agent(), **headers}
            response = session.get(address, headers=headers, stream=True, timeout=_TIMEOUT_S)
            response.raise_for_status()
            length = int(response.headers.get("Content-Length") or 0)
            digest = hashlib.sha256()
            with (
                files.atomic(target) as handle,
                progress(f"download {name}", length or None, " bytes") as bar,
            ):
                for chunk in response.iter_content(_CHUNK):
                    handle.write(chunk)
                    digest.update(chunk)
                    bar.update(len(chunk))
                # Inside the block, so that a wrong file never gets its name.
                _compare(digest.hexdigest(), f"what {url} serves", name, sha256, advice)
    except requests.RequestException as error:
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


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"HTTP {error.response.status_code}"
    return "no answer in time" if isinstance(error, requests.Timeout) else "no connection"


class _OurCertificates(HTTPAdapter):
    """Trusts what both web clients trust; requests alone leaves the system's certificates out."""

    def init_poolmanager(self, *values: Any, **options: Any) -> None:
        super().init_poolmanager(*values, ssl_context=ssl_context(), **options)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, ssl_context=ssl_context(), **options)
