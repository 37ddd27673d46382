"""A pipeline of one or two stages that train and score nothing, but log it as the real ones do.

Real git, DVC and MLflow; for tests of the ways to run a stage, not of the stages.
"""

from pathlib import Path

from repository import Repository, make_repository

STAGES = {
    "train": """
from pathlib import Path
from pttfaces.stage import run_stage
from pttfaces import config, files, tracking, workdir


def main():
    params, model = config.load(), Path("models/ddpm/best_model")
    model.mkdir(parents=True, exist_ok=True)
    (model / "weights.bin").write_text(f"seed {params.seed}")
    digest = files.digest_tree(model)
    with (
        workdir.resuming("train", params.seed, until_recorded=True) as work,
        tracking.training_run(params, "data-1", work / "mlflow_run") as run,
    ):
        run.log_metrics({"train_loss": 1.0}, step=1)
        run.log_model(model, digest, register=params.train.register_model)
        if params.seed == 13:
            raise ValueError("thirteen")
    files.write_json("metrics/train.json", {"model_digest": digest, "data_digest": "data-1"})


run_stage(main)
""",
    "evaluate": """
from pttfaces.stage import run_stage
from pttfaces import config, files, tracking, workdir


def main():
    params, digest = config.load(), files.digest_tree("models/ddpm/best_model")
    with (
        workdir.resuming("evaluate", params.seed, until_recorded=True) as work,
        tracking.evaluation_run(params, digest, work / "mlflow_run") as run,
    ):
        run.log_metrics({"random_feature_distance": 1.0})
    files.write_json("metrics/evaluate.json", {"model_digest": digest})


run_stage(main)
""",
}
ENTRY = """
  {stage}:
    cmd: python src/{stage}.py
    params: [seed]
    deps: [src/{stage}.py{model}]
    {outs}
    metrics:
      - metrics/{stage}.json:
          cache: false
"""


def make_small_pipeline(path: Path, *stages: str, register: bool) -> Repository:
    """A repository in which no stage has run; register: whether train registers its model."""
    made = make_repository(path, {"train.register": register})
    entries = []
    for stage in stages:
        (path / f"src/{stage}.py").write_text(STAGES[stage])
        trains = stage == "train"
        outs, model = ("outs: [models/ddpm]", "") if trains else ("", ", models/ddpm")
        entries.append(ENTRY.format(stage=stage, outs=outs, model=model))
    (path / "dvc.yaml").write_text("stages:" + "".join(entries))
    (path / "data/inputs.dvc").unlink()
    made.commit("small stages")
    return made
