"""How DVC names what it keeps: a file by the md5 of its bytes, a folder by that of its list."""

import hashlib
import json
from collections.abc import Iterable


def object_id(content: bytes) -> str:
    """What DVC knows a file by."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def folder_list(files: Iterable[tuple[str, str]]) -> bytes:
    """What DVC keeps of a folder, from the (md5, relative path) of its files; its own id is that of
    these bytes with .dir behind it."""
    entries = [{"md5": oid, "relpath": path} for oid, path in files]
    return json.dumps(entries, sort_keys=True).encode()


def entries_of(content: bytes) -> list[tuple[str, str]] | None:
    """(md5, relative path) of the files of such a list; None of a damaged one."""
    try:
        return [(str(one["md5"]), str(one["relpath"])) for one in json.loads(content)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
