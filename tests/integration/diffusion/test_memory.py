"""Memory that a process keeps, counted in pages that the kernel clears; running out of memory."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_training as tiny
import torch

from pttfaces.diffusion import memory, model_folder
from pttfaces.errors import ParamsError

BLOCK = 2**24  # bytes; older glibc keeps none of more than 32 MiB
ALLOCATES_AGAIN = """
import resource, torch
def allocated():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt * resource.getpagesize()
for _ in range(10):  # the heap settles, with gaps that an aligned block fits into
    torch.ones(BLOCK // 4)
before = allocated()
for _ in range(40):
    torch.ones(BLOCK // 4)
print(allocated() - before)
"""
TRAINS = """
import sys, tiny_training as tiny
from pathlib import Path
from pttfaces.training import loop
folder = Path(sys.argv[1])
loop.train(tiny.params(epochs=1), *tiny.draw_sets(folder), folder, lambda *_: None)
"""
GENERATES = """
import sys, settings
from pathlib import Path
from pttfaces.sampling import generation
from pttfaces.diffusion import model_folder
options = settings.group("generate", sampler="ddim", num_images=1, batch_size=1)
model = model_folder.load_model(Path(sys.argv[1], "model"), "cpu")
generation.generate(model, options, 2, 0, Path(sys.argv[1]))
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


def allocated_bytes(folder: Path, program: str) -> int:
    """What a process gets from the kernel for forty blocks, after it has run a program.

    It starts with glibc's first threshold, which would move otherwise, and without huge pages, of
    which a fault brings more than it is counted for.
    """
    alone = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
    environment = {name: text for name, text in os.environ.items() if not name.startswith(alone)}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "MALLOC_MMAP_THRESHOLD_": "131072"}
    small_pages = "import ctypes; ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)\n"  # PR_SET_THP_DISABLE
    again = ALLOCATES_AGAIN.replace("BLOCK", str(BLOCK))
    ran = subprocess.run(
        [sys.executable, "-c", small_pages + program + again, str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return int(ran.stdout.split()[-1])


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> int:
    return allocated_bytes(tmp_path_factory.mktemp("usual"), "")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
def test_memory_that_a_network_frees_serves_its_next_layer(
    tmp_path: Path, usual: int, work: str
) -> None:
    tiny.draw_sets(tmp_path)
    model_folder.save_model(tmp_path / "model", tiny.model(), {})
    assert allocated_bytes(tmp_path, work) < usual / 2
    assert usual >= 40 * BLOCK


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory"),
    ],
)
def test_explain_shortage_when_any_device_is_out_of_memory_raises_params_error(
    error: Exception,
) -> None:
    with (
        pytest.raises(ParamsError, match=r"out of memory with batch_size 4; halve it\."),
        memory.explain_shortage("batch_size 4", "halve it"),
    ):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("a bug"), NotImplementedError("a bug")])
def test_explain_shortage_of_other_errors_lets_them_pass(error: Exception) -> None:
    with (
        pytest.raises(type(error), match="a bug"),
        memory.explain_shortage("batch_size 4", "halve it"),
    ):
        raise error
