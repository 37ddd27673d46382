"""The project's own dvc.yaml over stages that do nothing but leave what they should, in seconds.

Real git, DVC and MLflow, and the real crawl; each other stage writes its outs as a function of its
parameters and inputs, and figures of the form that the real one writes. For tests of the history,
not of the stages.
"""

import shutil
from pathlib import Path

from repository import PROJECT, STAGES, Repository, make_repository, ran

STAGE = """
import hashlib, json, sys
from pathlib import Path

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from pttfaces.stage import run_stage
from pttfaces import config, denylist, files, manifest, workdir

NAME = Path(sys.argv[0]).stem


def main():
    stage = YAML(typ="safe").load(Path("dvc.yaml").read_text())["stages"][NAME]
    everything = config.load()
    flat = everything.flat()
    if denylist.DENIED in stage["deps"]:
        denylist.load_for_stage()
    wanted = [key for key in stage["params"]]
    mine = {k: v for k, v in flat.items() if any(k == w or k.startswith(w + ".") for w in wanted)}
    read = [Path(dep) for dep in stage["deps"] if not dep.startswith(("src/", "metrics/"))]
    deps = [files.digest_tree(p) if p.is_dir() else files.digest_file(p) for p in read]
    key = files.digest_json([mine, deps])
    made = {}
    for entry in stage["outs"] + stage.get("plots", []):
        path = Path(entry if isinstance(entry, str) else next(iter(entry)))
        leave(path, key)
    figures = json.loads((Path(".example") / f"{NAME}.json").read_text(encoding="utf-8"))
    figures.pop("seconds")
    if NAME == "train":
        figures |= {
            "model_digest": files.digest_tree(Path("models/ddpm/best_model")),
            "data_digest": files.digest_tree("data/dataset/train"),
        }
    if NAME in ("generate", "evaluate"):
        digest = files.digest_tree(Path("models/ddpm/best_model"))
        figures |= {"infer_steps": flat["infer_steps"], "model_digest": digest}
        count = "num_images" if NAME == "generate" else "generated"
        figures |= {count: flat["generate.num_images"], "seed": flat["seed"]}
        figures |= {key: flat[f"generate.{key}"] for key in ("sampler", "timestep_spacing")}
    if NAME == "evaluate":
        figures |= {"random_feature_distance": 50 + 100 / flat["infer_steps"]}
    files.write_metrics(NAME, figures)
    if NAME == "train":
        from pttfaces import tracking

        with (
            workdir.resuming("train", key, until_recorded=True) as work,
            tracking.training_run(everything, figures["data_digest"], work / "mlflow_run") as run,
        ):
            run.log_metrics({"train_loss": 0.5}, step=1)
            run.log_model(Path("models/ddpm/best_model"), figures["model_digest"], register=True)
    if NAME == "evaluate":
        from pttfaces import tracking

        with (
            workdir.resuming("evaluate", key, until_recorded=True) as work,
            tracking.evaluation_run(everything, digest, work / "mlflow_run") as run,
        ):
            run.log_metrics({"random_feature_distance": figures["random_feature_distance"]})
            run.log_file("metrics/pictures/nearest.png")
    print(f"{NAME}: done")


def leave(path, key):
    if path.name == "epochs.csv":
        rows = "".join(f"{epoch},{1 / epoch},{2 / epoch},0.001,0.1,40\\n" for epoch in (1, 2, 3))
        heads = "epoch,train_loss,val_loss,learning_rate,grad_norm,images_per_s\\n"
        files.write_text(path, heads + rows)
    elif path.name == "blur.csv":
        files.write_text(path, "variance,crops\\n50,2\\n100,3\\n200,4\\n")
    elif path.suffix == ".png":
        leave_image(path, key)
    elif path.suffix:
        files.write_text(path, key)
    elif path.name == "dataset":
        for side in ("train", "holdout"):
            leave_image(path / side / "a.png", key)
        manifest.write_manifest(path)
    elif path.name == "ddpm":
        files.write_text(path / "best_model/weights.bin", key)
    elif path.name == "train":
        for epoch in (1, 2):
            leave_image(path / f"epoch-{epoch:04d}.png", key)
    else:
        leave_image(path / "a.png", key)


def leave_image(path, key):
    from pttfaces import images

    colour = np.frombuffer(bytes.fromhex(key[:6]), np.uint8)
    images.save_png(path, Image.fromarray(np.broadcast_to(colour, (8, 8, 3)).copy()))


if __name__ == "__main__":
    run_stage(main)
"""


def make_light_line(path: Path) -> Repository:
    """A repository that has not run yet; its stages' figures begin as the committed ones."""
    made = make_repository(path, {})
    for stage in STAGES[1:]:
        (path / f"src/{stage}.py").write_text(STAGE, encoding="utf-8")
    (path / ".example").mkdir()
    for stage in STAGES:
        shutil.copy(PROJECT / f"metrics/{stage}.json", path / ".example")
    made.commit("light stages")
    return made


def run_light_line(path: Path) -> Repository:
    """A repository whose stages have run once, committed."""
    made = make_light_line(path)
    assert ran(made.ok("dvc", "repro")) == STAGES
    made.commit("first run")
    return made
