"""Reads the project's revisions (working folder, experiments, commits) and their figures from git.

A revision's metrics name the digests of its data and model; an MLflow run carries the same digests,
which leads from a run to the revisions that hold its result, and back.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pttfaces.evaluation import DISTANCES
from pttfaces.report.verdict import Score
from pttfaces.repository import STAGES, git

_STAGES = STAGES[-3:]  # train, generate, evaluate
_FOLLOWS = {  # stage → the one whose result it reads, and the figures that are equal in both
    "generate": ("train", ("model_digest",)),
    "evaluate": ("generate", ("model_digest", "sampler", "infer_steps")),
}
# The same for evaluate and generate, by name in each, where both have it: older figures do not.
_SAMPLES = {"generated": "num_images", "timestep_spacing": "timestep_spacing", "seed": "seed"}


@dataclass(frozen=True)
class Revision:
    """One revision of the project and its figures.

    kind: the working folder, an experiment of DVC's, or a commit; name: the experiment's name, the
    commit's short hash, or "this folder"; commit: its full hash, "" for the working folder;
    metrics: stage → its figures, {} if they are of an older model or of older samples; baseline:
    the commit that an experiment started from; name_is_shared: DVC finds the experiment by its
    commit only.
    """

    kind: Literal["folder", "experiment", "commit"]
    name: str
    commit: str
    metrics: Mapping[str, Mapping[str, Any]]
    baseline: str = ""
    name_is_shared: bool = False

    @property
    def train(self) -> Mapping[str, Any]:
        return self.metrics["train"]

    @property
    def evaluate(self) -> Mapping[str, Any]:
        return self.metrics["evaluate"]

    @property
    def generate(self) -> Mapping[str, Any]:
        return self.metrics["generate"]

    @property
    def score(self) -> Score | None:
        """Its distance, with its interval."""
        # Scores of version 0.1 have no digest of the training images, but every training has one.
        trained = {"trained_digest": self.train.get("data_digest")}
        return Score.of(self.evaluate, trained | dict(self.evaluate))

    @property
    def samples(self) -> tuple[Any, ...]:
        """What decides the samples that were scored; equal for equal samples."""
        return (
            *(self.evaluate.get(key) for key in _FOLLOWS["evaluate"][1]),
            *(self.evaluate.get(key, self.generate.get(name)) for key, name in _SAMPLES.items()),
        )

    def read(self, path: str) -> str:
        """The text of a file of this revision; "" if there is none."""
        if self.commit:
            return git("show", f"{self.commit}:./{path}")  # ./ for a project inside a repository
        try:
            return Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    @property
    def commands(self) -> list[str]:
        """Commands that restore its parameters, data and model in the working folder."""
        if self.kind == "experiment":
            return [f"dvc exp apply {self.commit[:8] if self.name_is_shared else self.name}"]
        # Without `git stash`, git keeps a changed dvc.lock, and DVC would restore what that names.
        restore = ["git stash", f"git checkout {self.name}", "dvc checkout"]
        return restore if self.kind == "commit" else []


def working_folder() -> Revision:
    """The working folder."""
    return _revision("folder", "this folder", "")


def all_revisions() -> list[Revision]:
    """The working folder, all experiments, and every commit that changed a figure, newest first."""
    revisions = [working_folder()]
    experiments = list(_experiments())
    names = Counter(name for name, _, _ in experiments)
    for name, baseline, commit in experiments:
        revision = _revision("experiment", name, commit)
        revisions.append(replace(revision, baseline=baseline, name_is_shared=names[name] > 1))
    log = ["log", "--branches", "--tags", "--remotes", "HEAD", "--format=%H %h", "--"]
    for line in git(*log, *(f"metrics/{stage}.json" for stage in _STAGES)).splitlines():
        commit, short = line.split()
        revisions.append(_revision("commit", short, commit))
    return revisions


def holds_result(revision: Revision, tags: Mapping[str, str], figures: Mapping[str, float]) -> bool:
    """Whether a revision has the result of an MLflow run, given its tags and last metrics.

    A training is identified by its model's digest, an evaluation by that, the steps and the score.
    """
    digest = tags.get("model_digest")
    if not digest:
        return False
    if tags.get("stage") == "train":
        return revision.train.get("model_digest") == digest
    scores = {key: revision.evaluate.get(key) for key in ("infer_steps", *DISTANCES)}
    return revision.evaluate.get("model_digest") == digest and all(
        figures.get(key) == value for key, value in scores.items() if value is not None
    )


def find_revision(name: str, revisions: list[Revision]) -> Revision | None:
    """The experiment of that name, or the commit that git knows by it: HEAD, a branch, a hash.

    Of several experiments of one name, that from HEAD, as DVC chooses, or else the newest.
    """
    experiments = [r for r in revisions if r.kind == "experiment" and r.name == name]
    if experiments:
        head = git("rev-parse", "HEAD").strip()
        return next((r for r in experiments if r.baseline == head), experiments[0])
    commit = git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip()
    if not commit:
        return None
    known = (revision for revision in revisions if revision.commit == commit)
    return next(known, None) or _revision("commit", commit[:8], commit)


def _revision(kind: Literal["folder", "experiment", "commit"], name: str, commit: str) -> Revision:
    revision = Revision(kind, name, commit, {})
    metrics = {stage: _parse(revision.read(f"metrics/{stage}.json")) for stage in _STAGES}
    for stage, (before, keys) in _FOLLOWS.items():
        if any(metrics[stage].get(key) != metrics[before].get(key) for key in keys):
            metrics[stage] = {}  # of an older model, or of older samples
    scored, made = metrics["evaluate"], metrics["generate"]
    both = [(key, name) for key, name in _SAMPLES.items() if key in scored and name in made]
    if any(scored[key] != made[name] for key, name in both):
        metrics["evaluate"] = {}
    return replace(revision, metrics=metrics)


def _experiments() -> Iterator[tuple[str, str, str]]:
    """(name, baseline, commit) of refs/exps/<2 of the baseline>/<38 of it>/<name>, newest first.

    Other references below refs/exps are DVC's own.
    """
    listed = git("for-each-ref", "--sort=-committerdate", "--format=%(refname) %(objectname)")
    for line in listed.splitlines():
        reference, commit = line.rsplit(" ", 1)
        parts = reference.split("/")
        if parts[:2] == ["refs", "exps"] and len(parts) == 5 and len(parts[3]) == 38:
            yield parts[4], parts[2] + parts[3], commit


def _parse(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
