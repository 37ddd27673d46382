"""From a run to the commits and experiments that hold its result, and from those to their runs.

Git holds every state's metrics, which name the digests of data and model; an MLflow run carries the
same digests. Reads git; changes nothing; knows nothing of how MLflow is asked.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pttfaces.repository import git

_STAGES = ("train", "generate", "evaluate")
_FOLLOWS = {  # stage → the one whose result it works on, and what both say where that is the same
    "generate": ("train", ("model_digest",)),
    "evaluate": ("generate", ("model_digest", "sampler", "infer_steps")),
}
# As in _FOLLOWS, evaluate's name → generate's: where both say it, since older figures do not.
_SAMPLES = {"generated": "num_images", "timestep_spacing": "timestep_spacing", "seed": "seed"}
DISTANCES = ("fid", "inception_distance", "random_feature_distance")
"""What evaluate may call its score; a result has one of them."""


@dataclass(frozen=True)
class State:
    """One state of the project and its figures.

    kind: the working folder, an experiment of DVC's, or a commit; name: the experiment's name, the
    commit's short hash, or "this folder"; commit: its full hash, "" for the working folder;
    metrics: stage → what it measured, {} where it has not run since what it measures was made
    anew; baseline: the commit that an experiment began from; name_is_shared: DVC finds the
    experiment by its commit only.
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
    def samples(self) -> tuple[Any, ...]:
        """What decides the samples that were scored, equal where they are the same."""
        made = self.metrics["generate"]
        return (
            *(self.evaluate.get(key) for key in _FOLLOWS["evaluate"][1]),
            *(self.evaluate.get(key, made.get(name)) for key, name in _SAMPLES.items()),
        )

    def read(self, path: str) -> str:
        """The text of a file that git knows there; "" where there is none."""
        if self.commit:
            return git("show", f"{self.commit}:./{path}")  # ./ for a project inside a repository
        try:
            return Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    @property
    def commands(self) -> list[str]:
        """What brings its parameters, data and model back into the working folder."""
        if self.kind == "experiment":
            return [f"dvc exp apply {self.commit[:8] if self.name_is_shared else self.name}"]
        return [f"git checkout {self.name}", "dvc checkout"] if self.kind == "commit" else []


def here() -> State:
    """The working folder's state."""
    return _state("folder", "this folder", "")


def all_states() -> list[State]:
    """The working folder, all experiments, and every commit that changed a figure, newest first."""
    found = [here()]
    experiments = list(_experiments())
    names = Counter(name for name, _, _ in experiments)
    for name, baseline, commit in experiments:
        state = _state("experiment", name, commit)
        found.append(replace(state, baseline=baseline, name_is_shared=names[name] > 1))
    history = ["log", "--branches", "--tags", "--remotes", "HEAD", "--format=%H %h", "--"]
    for line in git(*history, *(f"metrics/{stage}.json" for stage in _STAGES)).splitlines():
        commit, short = line.split()
        found.append(_state("commit", short, commit))
    return found


def holds(state: State, tags: Mapping[str, str], figures: Mapping[str, float]) -> bool:
    """Whether a state has the very result of a run: its tags and last figures, as in MLflow.

    A training is known by its model's digest, an evaluation by that, the steps and the score.
    """
    digest = tags.get("model_digest")
    if not digest:
        return False
    if tags.get("stage") == "train":
        return state.train.get("model_digest") == digest
    mine = {key: state.evaluate.get(key) for key in ("infer_steps", *DISTANCES)}
    return state.evaluate.get("model_digest") == digest and all(
        figures.get(key) == value for key, value in mine.items() if value is not None
    )


def named(name: str, among: list[State]) -> State | None:
    """The experiment of that name, or the commit that git knows by it: HEAD, a branch, a hash.

    Of several experiments of one name, that from HEAD, as DVC chooses, or else the newest.
    """
    called = [state for state in among if state.kind == "experiment" and name == state.name]
    if called:
        head = git("rev-parse", "HEAD").strip()
        return next((state for state in called if state.baseline == head), called[0])
    commit = git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip()
    if not commit:
        return None
    for state in among:
        if state.commit == commit:
            return state
    return _state("commit", commit[:8], commit)


def _state(kind: Literal["folder", "experiment", "commit"], name: str, commit: str) -> State:
    bare = State(kind, name, commit, {})
    metrics = {stage: _parsed(bare.read(f"metrics/{stage}.json")) for stage in _STAGES}
    for stage, (before, same) in _FOLLOWS.items():
        if any(metrics[stage].get(key) != metrics[before].get(key) for key in same):
            metrics[stage] = {}  # of an older model, or of older samples
    scored, made = metrics["evaluate"], metrics["generate"]
    both = [(key, name) for key, name in _SAMPLES.items() if key in scored and name in made]
    if any(scored[key] != made[name] for key, name in both):
        metrics["evaluate"] = {}
    return replace(bare, metrics=metrics)


def _experiments() -> Iterator[tuple[str, str, str]]:
    """(name, baseline, commit) of refs/exps/<2 of the baseline>/<38 of it>/<name>, newest first;
    what else lies there is DVC's own."""
    listed = git("for-each-ref", "--sort=-committerdate", "--format=%(refname) %(objectname)")
    for line in listed.splitlines():
        reference, commit = line.rsplit(" ", 1)
        parts = reference.split("/")
        if parts[:2] == ["refs", "exps"] and len(parts) == 5 and len(parts[3]) == 38:
            yield parts[4], parts[2] + parts[3], commit


def _parsed(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
