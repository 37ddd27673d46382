"""What a process' memory costs, in pages that the kernel clears, and what a lack of it says."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_training as tiny
import torch

from pttfaces.diffusion import memory, model_folder, unet
from pttfaces.errors import ParamsError

PIECE = 2**24  # bytes; older glibc keep none of more than 32 MiB
ASKS_AGAIN = """
import resource, torch
def asked_for():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt * resource.getpagesize()
for _ in range(10):  # the heap finds its form, with gaps that an aligned piece fits into
    torch.ones(PIECE // 4)
before = asked_for()
for _ in range(40):
    torch.ones(PIECE // 4)
print(asked_for() - before)
"""
TRAINS = """
import sys, tiny_training as tiny
from pathlib import Path
from pttfaces.training import loop as training
training.train(tiny.task(Path(sys.argv[1]), epochs=1), Path(sys.argv[1]), lambda report: None)
"""
GENERATES = """
import sys
from pathlib import Path
from pttfaces.sampling import generation
from pttfaces.diffusion import model_folder as models
from pttfaces.sampling.samplers import Sampler
order = generation.Order(Sampler("ddim", 2, "trailing"), 0, 1, 1)
generation.generate(models.load(Path(sys.argv[1], "model"), "cpu"), order, Path(sys.argv[1]))
"""
EMBEDS = """
import sys
from pathlib import Path
from pttfaces.evaluation import features
from pttfaces.evaluation import image_folder as folder
import settings
extractor = features.make_extractor(settings.group("evaluate", batch_size=8), Path(sys.argv[1]))
extractor.embed(folder.open_folder(Path(sys.argv[1], "train"), ""))
"""

WORKS = {"train": TRAINS, "generate": GENERATES, "embed": EMBEDS}


def bytes_asked_for(folder: Path, program: str) -> int:
    """What a process gets from the kernel for forty pieces, after it has run a program.

    It begins with glibc's first threshold, which else would move, and without huge pages, of which
    a fault brings more than it is counted for.
    """
    alone = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
    environment = {name: text for name, text in os.environ.items() if not name.startswith(alone)}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "MALLOC_MMAP_THRESHOLD_": "131072"}
    small_pages = "import ctypes; ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)\n"  # PR_SET_THP_DISABLE
    asks = ASKS_AGAIN.replace("PIECE", str(PIECE))
    ran = subprocess.run(
        [sys.executable, "-c", small_pages + program + asks, str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return int(ran.stdout.split()[-1])


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> int:
    return bytes_asked_for(tmp_path_factory.mktemp("usual"), "")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left alone")
@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
def test_what_a_network_s_process_frees_it_has_for_the_next_layer(
    tmp_path: Path, usual: int, work: str
) -> None:
    tiny.task(tmp_path)
    model_folder.save(tmp_path / "model", unet.build(tiny.ARCHITECTURE, seed=0), tiny.COSINE, {})
    assert bytes_asked_for(tmp_path, work) < usual / 2
    assert usual >= 40 * PIECE


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory"),
    ],
)
def test_every_device_s_lack_of_memory_is_known(error: Exception) -> None:
    sentence = r"for batch_size 4 with this network; halve it\."
    with pytest.raises(ParamsError, match=sentence), memory.enough_for("batch_size 4", "halve it"):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("a bug"), NotImplementedError("a bug")])
def test_other_errors_are_no_lack_of_memory(error: Exception) -> None:
    with pytest.raises(type(error), match="a bug"), memory.enough_for("batch_size 4", "halve it"):
        raise error
