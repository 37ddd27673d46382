"""The stages detect and crop on a Ray cluster of three nodes, each with processes of its own."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faces_support import draw, ledger_row
from settings import group

from pttfaces import files
from pttfaces.errors import DataError, ParamsError
from pttfaces.faces import alignment, detection
from pttfaces.faces.detectors.base import Detector, Face
from pttfaces.faces.detectors.haar import HaarDetector
from pttfaces.faces.parallel import ENGINE, Engine, Threads, connect_engine
from pttfaces.tables import Detection, LedgerRow

ray = pytest.importorskip("ray", reason="the dependency group `cluster` is not installed")
pytestmark = pytest.mark.xdist_group("ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes with one core each; the first one is the head."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # its workers import this module
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        yield cluster
        cluster.shutdown()


@pytest.fixture
def engine(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv(ENGINE, "ray")
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    with connect_engine() as engine:
        yield engine


Images = tuple[list[LedgerRow], Path]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """The rows of 48 images, one of them broken, and their folder."""
    folder = tmp_path_factory.mktemp("raw")
    contents = [draw(seed, (160, 200)).png() for seed in range(47)]
    rows = []
    for content in [*contents[:20], b"broken", *contents[20:]]:
        sha256 = files.digest_bytes(content)
        files.write_bytes(folder / f"{sha256}.png", content)
        rows.append(ledger_row(f"{sha256}.png", sha256))
    return rows, folder


class SlowDetector(HaarDetector):
    """Takes its time for every image, and notes on which node."""

    def __init__(self, notes: Path) -> None:
        super().__init__(group("detect", min_size=24))
        self._notes = notes

    def look(self, image: np.ndarray) -> list[Face]:
        if ray.is_initialized():
            with self._notes.open("a") as notes:
                notes.write(f"{ray.get_runtime_context().get_node_id()}\n")
            time.sleep(0.2)
        return super().look(image)


def detect(images: Images, work: Path, detector: Detector, engine: Engine) -> Iterator[Detection]:
    cache = detection.DetectionCache(work / "cache", detector)
    for image, found in detection.search_all(*images, cache, engine):
        yield from detection.table_rows(image.path, found, detector)


def crop(images: Images, work: Path, faces: list[Detection], engine: Engine) -> tuple[str, str]:
    """The rows of crops, and a digest of the crops."""
    target, cropper = files.clean_folder(work / "crops"), alignment.FaceCropper(group("crop"))
    by_image = detection.faces_by_image(faces)
    rows = list(alignment.crop_all(by_image, images[1], target, cropper, engine))
    return repr(rows), files.digest_tree(target)


def busy_node(cluster: Any, notes: Path) -> Any:
    """A node, not the head, that has searched some images of its batch."""
    for _ in range(2000):
        searched = Counter(notes.read_text().split())
        for node in cluster.worker_nodes:
            if 1 <= searched[node.node_id] % 8 <= 5:
                return node
        time.sleep(0.01)
    raise AssertionError(f"no node is busy: {searched}")


def refuse(_: object) -> None:
    raise DataError("no such image")


def die(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_ray_engine_raises_the_functions_own_error(engine: Engine) -> None:
    with pytest.raises(DataError, match=r"^no such image$"):
        list(engine.ordered_map(refuse, [1, 2]))


def test_ray_engine_when_all_workers_die_raises_data_error(engine: Engine) -> None:
    with pytest.raises(DataError, match="workers of the Ray cluster died with the same images"):
        list(engine.ordered_map(die, [1]))


WAITING = """
import time
from pttfaces.stage import run
from pttfaces.faces.parallel import connect_engine

def main():
    with connect_engine():
        print("connected", flush=True)
        time.sleep(60)

run(main)
"""


def test_stage_on_a_cluster_that_is_terminated_says_so(cluster: Any) -> None:
    """Slurm ends a job by SIGTERM, for which Ray has a handler of its own, which aborts."""
    environment = os.environ | {ENGINE: "ray", "RAY_ADDRESS": cluster.address}
    with subprocess.Popen(
        [sys.executable, "-c", WAITING],
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as stage:
        assert stage.stdout is not None
        assert stage.stdout.readline() == "connected\n"
        stage.terminate()
        said = stage.communicate(timeout=60)[1]
    assert (stage.returncode, said) == (
        130,
        "Interrupted. Progress is saved; run the same command to resume.\n",
    )


def test_connect_engine_without_a_cluster_raises_params_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ENGINE, "ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with (
        pytest.raises(ParamsError, match=r"RAY_ADDRESS '127\.0\.0\.1:1' does not"),
        connect_engine(),
    ):
        pass


class Unknown:
    """What the workers cannot unpickle."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return refuse_to_load, ()


def refuse_to_load() -> None:
    raise ModuleNotFoundError("No module named 'cv3'")


def test_ray_engine_when_a_worker_cannot_load_the_function_says_why(engine: Engine) -> None:
    with pytest.raises(ParamsError, match=r"cannot load this project .*No module named 'cv3'"):
        list(engine.ordered_map(partial(print, Unknown()), [1]))


def test_ray_engine_gives_the_bytes_of_threads_also_when_a_node_is_killed(
    cluster: Any, engine: Engine, images: Images, tmp_path: Path
) -> None:
    """The batch of the lost node is searched again, and nothing is lost or doubled."""
    notes = tmp_path / "notes"
    detector = SlowDetector(notes)
    faces = []
    for row in detect(images, tmp_path / "ray", detector, engine):
        faces.append(row)
        if len(faces) == 1:
            cluster.remove_node(busy_node(cluster, notes), allow_graceful=False)
    assert len(notes.read_text().split()) > 47  # the images of the lost batch twice
    threads = Threads()
    assert list(detect(images, tmp_path / "threads", detector, threads)) == faces
    # All of it is in the cache: a second run searches nothing.
    notes.unlink()
    assert list(detect(images, tmp_path / "ray", detector, engine)) == faces
    assert not notes.exists()
    on_threads = crop(images, tmp_path / "threads", faces, threads)
    assert len(list((tmp_path / "threads/crops").iterdir())) > 20
    assert crop(images, tmp_path / "ray", faces, engine) == on_threads
