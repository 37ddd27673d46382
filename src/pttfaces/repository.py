"""Reads what git and DVC record of the project: git's output, dvc.yaml, dvc.lock, DVC's digests."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pttfaces.errors import printable

STAGES = ("crawl", "links", "download", "detect", "crop", "curate", "train", "generate", "evaluate")
"""The stages of dvc.yaml in their order, without `inputs`, which writes no metrics."""


def git(*arguments: str, cwd: str | Path | None = None) -> str:
    """The output of a git command; "" if it fails or git is not installed.

    A log has no signatures, whatever the user's settings are. Where git refuses a folder because it
    belongs to another user, its own sentence is printed, once.
    """
    command = ["git", "-c", "log.showSignature=false", *arguments]
    try:
        ended = subprocess.run(
            command, cwd=cwd, capture_output=True, env={**os.environ, "LC_ALL": "C"}
        )
    except OSError:
        return ""
    if ended.returncode == 0:
        return ended.stdout.decode(errors="replace")
    if b"safe.directory" in ended.stderr:
        _warn(ended.stderr.decode(errors="replace"))
    return ""


@cache
def _warn(message: str) -> None:
    text = " ".join(message.removeprefix("fatal: ").split())
    print(printable(f"warning: git: {text}"), file=sys.stderr)


def read_yaml(text: str) -> Any:
    """The plain values of a YAML text; None if it is not YAML."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, LookupError, RecursionError):
        return None


def read_yaml_file(path: str | Path) -> Any:
    """The plain values of a YAML file; None if it is not YAML, or does not exist."""
    path = Path(path)
    return read_yaml(path.read_text(encoding="utf-8")) if path.is_file() else None


def value_at(values: Any, *keys: str) -> Any:
    """The value under these nested keys; None if there is none."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def stage_params(stage: str, params: str, dvc_yaml: str | Path = "dvc.yaml") -> dict[str, Any]:
    """The parameters that a stage depends on: dotted key → value in the text of a params.yaml.

    {} for an unknown stage; None for a key that is not there.
    """
    keys, values = value_at(read_yaml_file(dvc_yaml), "stages", stage, "params"), read_yaml(params)
    return {str(key): value_at(values, *str(key).split(".")) for key in keys or ()}


def lock_entries(text: str) -> dict[str, Any]:
    """Stage → its entry in the text of a dvc.lock; {} where it is not one."""
    stages = value_at(read_yaml(text), "stages")
    return stages if isinstance(stages, dict) else {}


def digests(entry: Any, side: str) -> dict[str, str]:
    """Path → MD5 of the "deps" or "outs" of an entry of dvc.lock, or of a .dvc file's values."""
    items = value_at(entry, side)
    return {
        item["path"]: item["md5"]
        for item in (items if isinstance(items, list) else ())
        if isinstance(item, dict) and {"path", "md5"} <= item.keys()
    }


def object_id(content: bytes) -> str:
    """The MD5 that identifies a file in DVC."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def folder_list(files: Iterable[tuple[str, str]]) -> bytes:
    """What DVC stores for a folder, from the (MD5, relative path) of its files.

    The folder's own id is the MD5 of these bytes with .dir appended.
    """
    entries = [{"md5": oid, "relpath": path} for oid, path in files]
    return json.dumps(entries, sort_keys=True).encode()


def parse_folder_list(content: bytes) -> list[tuple[str, str]] | None:
    """(MD5, relative path) of the files in a folder's list; None where it is damaged."""
    try:
        return [(str(entry["md5"]), str(entry["relpath"])) for entry in json.loads(content)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def read_cached(oid: str) -> bytes | None:
    """The bytes of an object in DVC's cache; None if it is not there."""
    from dvc.repo import Repo  # takes most of a second

    with Repo() as repo:
        path = Path(repo.cache.local.oid_to_path(oid))
        return path.read_bytes() if path.is_file() else None
