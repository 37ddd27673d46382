"""Collects what made a result besides data and parameters: software, machine, uncommitted edits."""

import difflib
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pttfaces import files, repository

# What the pipeline itself writes, and what may hold or quote its data: notebooks show images.
_LEFT_OUT = ("data", "models", "metrics", "dvc.lock", "*.ipynb")
_MAX_NAMED = 20


@dataclass(frozen=True)
class Provenance:
    """facts: such as "torch" → "2.15.0"; diff: of the uncommitted changes, "" without any."""

    facts: dict[str, str]
    diff: str


def collect() -> Provenance:
    """The provenance of what this process computes, as it is now.

    An uncommitted change is one of a file that git tracks or would track, apart from the pipeline's
    outputs and notebooks; of new files the diff has Python code only.
    """
    import torch

    from pttfaces.diffusion import devices, distributed

    lock = Path("requirements.lock")
    changed, new = _uncommitted()
    names = sorted({*changed, *new})
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    known = repository.git("rev-parse", "--verify", "--quiet", "HEAD")
    facts = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "diffusers": version("diffusers"),
        "cuda": torch.version.cuda or "none",
        "device": devices.describe_device(distributed.state().device),
        "threads": str(torch.get_num_threads()),
        "processes": str(distributed.state().num_processes),
        "requirements.lock": files.digest_file(lock) if lock.exists() else "none",
        "uncommitted changes": (", ".join(names[:_MAX_NAMED]) + more if names else "none")
        if known
        else "unknown: no git repository with a commit",
    }
    return Provenance(facts, _diff(changed, new))


def _pathspec() -> list[str]:
    return ["--", ".", *(f":(exclude){pattern}" for pattern in _LEFT_OUT)]


def _uncommitted() -> tuple[list[str], list[str]]:
    """The names of changed and of new files, below the working folder."""
    changed = repository.git("diff", "--relative", "--name-only", "-z", "HEAD", *_pathspec())
    new = repository.git("ls-files", "--others", "--exclude-standard", "-z", *_pathspec())
    return changed.split("\0")[:-1], new.split("\0")[:-1]


def _diff(changed: list[str], new: list[str]) -> str:
    plain = ("--no-ext-diff", "--no-textconv", "--no-color", "--relative")
    text = repository.git("diff", *plain, "HEAD", *_pathspec()) if changed else ""
    for name in new:
        if name.endswith(".py"):
            lines = Path(name).read_text(encoding="utf-8", errors="replace").splitlines()
            added = difflib.unified_diff([], lines, "/dev/null", f"b/{name}", lineterm="")
            text += "".join(f"{line}\n" for line in added)
    return text
