"""What a person gets wrong, stage by stage: one sentence on stderr, exit code 2, nothing lost.

Each case runs a stage script as a child process in a small folder, as `dvc repro` would; the stages
before it run here, which is faster.
"""

import importlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

PROJECT = Path(__file__).resolve().parents[3]


class Workplace:
    """A folder with a params.yaml, in which stages run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values = YAML(typ="safe").load(
            (PROJECT / "presets/demo.yaml").read_text(encoding="utf-8")
        )

    def put(self, **settings: Any) -> None:
        """Sets keys; a double underscore stands for the dot: train__batch_size=2."""
        for key, value in settings.items():
            *groups, last = key.split("__")
            place = self.values
            for group in groups:
                place = place[group]
            place[last] = value

    def write_params(self) -> None:
        with (self.path / "params.yaml").open("w") as handle:
            YAML().dump(self.values, handle)

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        self.write_params()
        drop = ("DVC_", "MLFLOW_")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(drop)}
        program = [str(PROJECT / "src" / script)]
        if not script.endswith(".py"):  # a command, which runs in a checkout only
            program = ["-m", "pttfaces", script]
            (self.path / "dvc.yaml").touch()
        return subprocess.run(
            [sys.executable, *program, *arguments],
            cwd=self.path,
            env=environment | {"PYTHONPATH": str(PROJECT / "src")},
            capture_output=True,
            text=True,
            timeout=240,
        )

    def refused(self, script: str, *arguments: str) -> str:
        """Runs a script that must end with one sentence and exit code 2; returns the sentence."""
        ended = self.run(script, *arguments)
        assert ended.returncode == 2, ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
        (sentence,) = [row for row in ended.stderr.splitlines() if row.startswith("error: ")]
        return sentence

    def up_to(self, *stages: str) -> None:
        """Runs stages in this process."""
        self.write_params()
        for stage in stages:
            importlib.import_module(stage).main()

    def images(self, folder: str, count: int, side: int) -> None:
        place = self.path / folder
        place.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        for number, pixels in enumerate(noise):
            Image.fromarray(pixels).save(place / f"{number:06d}.png")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return Workplace(tmp_path)


def test_stages_with_a_parameter_of_a_wrong_type_name_it(workplace: Workplace) -> None:
    workplace.put(infer_steps="abc")
    for stage in ("crawl.py", "evaluate.py"):
        assert "infer_steps is 'abc'; expected an integer" in workplace.refused(stage)


def test_crawl_without_a_network_names_the_address(workplace: Workplace) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    workplace.put(source="ptt", board__base_url=address)
    assert address in workplace.refused("crawl.py")


def test_site_on_a_port_in_use_names_the_port(workplace: Workplace) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert port in workplace.refused("site", "--port", port)


def test_crawl_of_days_without_an_article_says_to_choose_others(workplace: Workplace) -> None:
    workplace.put(board__dates=["0102", "0102"], demo__articles=3)
    assert "choose other board.dates" in workplace.refused("crawl.py")


def test_download_with_an_empty_inbox_and_no_board_says_what_to_do(workplace: Workplace) -> None:
    workplace.put(source="inbox")
    workplace.up_to("crawl", "links")
    assert "put photographs into data/inbox" in workplace.refused("download.py")


def test_download_of_images_that_are_all_too_large_says_which_limit_to_raise(
    workplace: Workplace,
) -> None:
    workplace.put(source="inbox", download__max_megapixels=0.001)
    workplace.images("data/inbox", 2, 200)
    workplace.up_to("crawl", "links")
    said = workplace.refused("download.py")
    assert "2 too large); raise download.max_mib or download.max_megapixels in" in said


def test_detect_of_images_without_a_face_says_so_and_keeps_the_ledger(workplace: Workplace) -> None:
    workplace.put(source="inbox")
    workplace.images("data/inbox", 2, 200)
    workplace.up_to("crawl", "links", "download")
    assert "found no face in any of the 2 images" in workplace.refused("detect.py")
    assert (workplace.path / "data/ledger.csv").exists()


def test_detect_of_an_unreadable_image_counts_it_and_continues(workplace: Workplace) -> None:
    from skimage import data

    workplace.put(source="inbox")
    inbox = workplace.path / "data/inbox"
    inbox.mkdir(parents=True)
    Image.fromarray(data.astronaut()).save(inbox / "person.png")
    whole = (inbox / "person.png").read_bytes()
    (inbox / "broken.png").write_bytes(whole[:20000] + b"\0" * 5000 + whole[25000:])
    (inbox / "notes.docx").write_bytes(b"PK\x03\x04 no picture")
    workplace.up_to("crawl", "links", "download", "detect", "crop")
    found = json.loads((workplace.path / "metrics/detect.json").read_text(encoding="utf-8"))
    assert (found["with_face"], found["unreadable"]) == (1, 1)
    assert "at least 2" in workplace.refused("curate.py")


def test_train_on_fewer_crops_than_a_batch_says_which_key_to_lower(workplace: Workplace) -> None:
    workplace.put(train__batch_size=16, image_size=16, train__select_by="train_loss")
    workplace.images("data/dataset/train", 3, 16)
    assert "lower train.batch_size to at most 3" in workplace.refused("train.py")


def test_train_and_generate_without_their_inputs_say_what_makes_them(workplace: Workplace) -> None:
    assert "dvc repro" in workplace.refused("train.py")
    assert "dvc repro" in workplace.refused("generate.py")


@pytest.mark.parametrize("exists", [False, True], ids=["missing", "wrong digest"])
def test_evaluate_with_missing_or_wrong_weights_names_file_and_key(
    workplace: Workplace, exists: bool
) -> None:
    weights = workplace.path / "inception.pth"
    if exists:
        weights.write_bytes(b"not these")
    workplace.put(evaluate__features="inception", evaluate__weights=str(weights), image_size=16)
    workplace.images("data/dataset/train", 4, 16)
    workplace.images("data/generated", 4, 16)
    (workplace.path / "models/ddpm/best_model").mkdir(parents=True)
    sentence = workplace.refused("evaluate.py")
    assert str(weights) in sentence
    assert "evaluate.weights" in sentence


def test_detect_without_its_weights_names_file_and_key(workplace: Workplace) -> None:
    workplace.put(source="inbox", detect__detector="yunet", detect__weights="nowhere.onnx")
    workplace.images("data/inbox", 1, 100)
    workplace.up_to("crawl", "links", "download")
    sentence = workplace.refused("detect.py")
    assert "nowhere.onnx" in sentence
    assert "detect.weights" in sentence
