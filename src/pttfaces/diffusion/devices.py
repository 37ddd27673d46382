"""Chooses what depends on the device: precision, memory format and compilation."""

import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pttfaces.config import Precision
from pttfaces.diffusion import distributed

if TYPE_CHECKING:
    from diffusers import UNet2DModel


def environment() -> dict[str, Any]:
    """What else decides a result, apart from data, settings and code: libraries and machine.

    On a CPU this includes the number of threads, which decides the order of sums and so the last
    bits. A GPU's results do not depend on the CPU beside it.
    """
    device = distributed.state().device
    threads = {"threads": torch.get_num_threads()} if device.type == "cpu" else {}
    return {
        "torch": str(torch.__version__),
        "diffusers": version("diffusers"),
        "device": describe_device(device),
        **threads,
    }


def describe_device(device: torch.device) -> str:
    """Kind and capability of a device: "cuda NVIDIA T4 7.5" or "cpu x86_64 AVX2 …"."""
    if device.type == "cpu":
        capability = torch.backends.cpu.get_cpu_capability()
        return " ".join(["cpu", platform.machine(), capability, _cpu_name()]).strip()
    module = getattr(torch, device.type)  # torch.cuda, torch.xpu; torch.mps names no device
    if not hasattr(module, "get_device_name"):
        return f"{device.type} {platform.machine()} {_cpu_name()}".strip()
    capability = module.get_device_capability(device)
    level = ".".join(map(str, capability)) if isinstance(capability, tuple) else ""
    return f"{device.type} {module.get_device_name(device)} {level}".strip()


def _cpu_name() -> str:
    """The CPU's model, as libraries choose their code by it; "" where the system tells none."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor()


DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def supported_precision(requested: Precision) -> Precision:
    """The precision that is used on this device for a requested one: fp32, fp16 or bf16."""
    kind = distributed.state().device.type
    if kind == "cpu":
        return "fp32"
    if kind == "cuda" and requested == "bf16":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return requested


def prepare_precision(requested: Precision, stage: str) -> Precision:
    """The supported precision; prints a line if it is not the requested one.

    Also lets an NVIDIA GPU use TF32 where float32 is multiplied, and its fastest convolutions.
    stage: for the message.
    """
    device, used = distributed.state().device, supported_precision(requested)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    if used != requested and distributed.state().is_main_process:
        where = "a CPU" if device.type == "cpu" else "this GPU"
        print(f"{stage}: {requested} is not supported on {where}; using {used}.", file=sys.stderr)
    return used


def memory_format(device: torch.device | str) -> torch.memory_format:
    """The fastest layout of a network's weights on this device.

    Channels last where convolutions are optimized for it: NVIDIA's GPUs and x86 CPUs since AVX2.
    Others were not measured.
    """
    wide = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    kind = torch.device(device).type
    last = kind == "cuda" or (kind == "cpu" and wide)
    return torch.channels_last if last else torch.contiguous_format


def compile_for_gpu(unet: "UNet2DModel", batch_size: int) -> None:
    """Compiles the network on a GPU; on a CPU compilation takes longer than it saves."""
    if distributed.state().device.type != "cpu":
        compile_in_place(unet, batch_size)


def compile_in_place(unet: "UNet2DModel", batch_size: int, backend: str = "inductor") -> None:
    """Compiles the network; where that fails it stays as it is, and a line on stderr says why.

    Runs it at once on a batch of zeros, in the network's current mode, so that a failure shows.
    """
    size, device = unet.config.sample_size, unet.device
    zeros = torch.zeros((batch_size, 3, size, size), device=device)
    unet.compile(backend=backend)
    try:  # forward alone: the backward pass would start the communication between processes
        unet(zeros, torch.zeros(batch_size, dtype=torch.int64, device=device))
    except Exception as error:  # whatever a compiler raises on a machine that lacks its tools
        unet._compiled_call_impl = None
        if distributed.state().is_main_process:
            # The compiler that failed, then why.
            reason = " ".join((str(error).strip() or type(error).__name__).splitlines()[:2])
            print(
                f"train: cannot compile the network here ({reason}); training without. Set "
                "train.compile to false to silence this message.",
                file=sys.stderr,
            )
