"""The stages detect and crop on a Ray cluster of three nodes, each with processes of its own."""

import os
import signal
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
from pttfaces.faces.detectors import make_detector
from pttfaces.faces.detectors.base import Detector, Face
from pttfaces.faces.parallel import ENGINE, Engine, Threads, connect_engine
from pttfaces.tables import LedgerRow

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


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[LedgerRow], Path]:
    """Forty images, one of them broken, and their folder."""
    folder = tmp_path_factory.mktemp("raw")
    contents = [draw(seed, (160, 200)).png() for seed in range(39)]
    rows = []
    for content in [*contents[:20], b"broken", *contents[20:]]:
        sha256 = files.digest_bytes(content)
        files.write_bytes(folder / f"{sha256}.png", content)
        rows.append(ledger_row(f"{sha256}.png", sha256))
    return rows, folder


def run(
    listed: tuple[list[LedgerRow], Path], work: Path, detector: Detector, engine: Engine
) -> tuple[list[str], dict[str, bytes]]:
    """The rows of detect and crop, and the crops."""
    rows, folder = listed
    cache = detection.DetectionCache(work / "cache", detector)
    faces = [
        row
        for image, found in detection.search_all(rows, folder, cache, engine)
        for row in detection.table_rows(image.path, found, detector)
    ]
    target, cropper = files.clean_folder(work / "crops"), alignment.FaceCropper(group("crop"))
    by_image = detection.faces_by_image(faces)
    cropped = alignment.crop_all(by_image, folder, target, cropper, engine)
    crops = [row for of_image in cropped for row in of_image]
    written = {path.name: path.read_bytes() for path in target.iterdir()}
    return [repr(row) for row in [*faces, *crops]], written


def test_ray_engine_gives_the_same_bytes_as_threads(
    engine: Engine, listed: tuple[list[LedgerRow], Path], tmp_path: Path
) -> None:
    detector = make_detector(group("detect", min_size=24))
    on_threads = run(listed, tmp_path / "threads", detector, Threads())
    assert len(on_threads[1]) > 20
    assert run(listed, tmp_path / "ray", detector, engine) == on_threads


class Slow(Detector):
    """Finds one face in every image after a moment, and notes on which node."""

    name, cache_version = "slow", "1"

    def __init__(self, notes: Path) -> None:
        self.options, self.identity = group("detect", min_size=8), {}
        self._notes = notes

    def is_sure(self, face: Face) -> bool:
        return True

    def look(self, image: np.ndarray) -> list[Face]:
        with self._notes.open("a") as notes:
            notes.write(f"{ray.get_runtime_context().get_node_id()}\n")
        time.sleep(0.3)
        landmarks = np.array([[60, 70], [100, 70], [80, 90], [65, 110], [95, 110]], np.float32)
        return [Face(0.9, (40.0, 40.0, 80.0, float(image.mean())), landmarks, 2)]


def busy_node(cluster: Any, notes: Path) -> Any:
    """A node, not the head, that has searched some images of its batch."""
    while True:
        searched = Counter(notes.read_text().split())
        for node in cluster.worker_nodes:
            if 1 <= searched[node.node_id] % 8 <= 5:
                return node
        time.sleep(0.01)


def test_ray_engine_when_a_node_is_killed_finishes_on_the_others(
    cluster: Any, engine: Engine, listed: tuple[list[LedgerRow], Path], tmp_path: Path
) -> None:
    """Its batch is searched again, and nothing is lost or doubled."""
    rows, folder = listed
    notes = tmp_path / "notes"
    cache = detection.DetectionCache(tmp_path / "cache", Slow(notes))
    seen = []
    for image, found in detection.search_all(rows, folder, cache, engine):
        seen.append((image.path, [face.box for face in found.faces], found.reason))
        if len(seen) == 1:
            victim = busy_node(cluster, notes)
            cluster.remove_node(victim, allow_graceful=False)
    assert [path for path, _, _ in seen] == [row.path for row in rows]
    assert [bool(boxes) for _, boxes, _ in seen] == [not reason for _, _, reason in seen]
    assert len({tuple(boxes) for _, boxes, _ in seen}) == 40  # each image has its own
    searched = notes.read_text().split()
    assert len(searched) > 39  # the images of the lost batch twice
    # All of it is in the cache: a second run asks no cluster.
    again = detection.search_all(rows, folder, cache, Threads())
    assert [[face.box for face in found.faces] for _, found in again] == [s[1] for s in seen]
    cluster.add_node(num_cpus=1)


def refuse(_: object) -> None:
    raise DataError("no such image")


def die(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_ray_engine_raises_the_functions_own_error(engine: Engine) -> None:
    with pytest.raises(DataError, match=r"^no such image$"):
        list(engine.ordered_map(refuse, [1, 2]))


def test_ray_engine_when_all_workers_die_raises_data_error(engine: Engine) -> None:
    with pytest.raises(DataError, match="no worker left"):
        list(engine.ordered_map(die, [1]))


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


def test_ray_engine_when_no_worker_starts_says_why(engine: Engine) -> None:
    with pytest.raises(ParamsError, match=r"no worker starts .*No module named 'cv3'"):
        list(engine.ordered_map(partial(print, Unknown()), [1]))
