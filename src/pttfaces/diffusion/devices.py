"""What a device can do for a training: arithmetic, compilation, and a word where it cannot.

Knows nothing of data, losses or recipes.
"""

import sys
from typing import Any

import torch
from diffusers import UNet2DModel

from pttfaces.diffusion import distributed
from pttfaces.errors import ParamsError


def precision(asked: str) -> str:
    """The arithmetic that will really be used, fp32, fp16 or bf16; says so where it is another.

    Also lets an NVIDIA GPU use TF32 where float32 is multiplied, and its fastest convolutions.
    """
    device, used = distributed.device(), asked
    if device.type == "cpu":
        used = "fp32"
    elif device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
        if asked == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
            used = "fp16"
    if used != asked and distributed.is_first():
        reason = "a CPU is float32" if device.type == "cpu" else "this GPU would be emulated"
        print(f"train: {asked} on {reason}; going on with {used}.", file=sys.stderr)
    return used


def reads_are_free(device: torch.device) -> bool:
    """Whether Python may look at a tensor's value without waiting for the device."""
    return device.type == "cpu"


def memory_format(device: torch.device | str) -> torch.memory_format:
    """How a network's weights lie best in this device's memory.

    Channels last where convolutions are made for it: NVIDIA's GPUs and x86 CPUs since AVX2. Others
    were not tried.
    """
    wide = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    kind = torch.device(device).type
    last = kind == "cuda" or (kind == "cpu" and wide)
    return torch.channels_last if last else torch.contiguous_format


def compile_for_gpu(network: UNet2DModel, batch_size: int) -> None:
    """Compiles the network on a GPU; on a CPU that takes longer than it saves: nothing is done."""
    if distributed.device().type != "cpu":
        compile_in_place(network, batch_size)


def compile_in_place(network: UNet2DModel, batch_size: int, backend: str = "inductor") -> None:
    """Compiles the network; one that cannot be compiled stays as it is, and the reason is told.

    Tried out at once on an empty batch, in the mode that the network is in, so that a training does
    not stop for it later.
    """
    side, device = network.config.sample_size, network.device
    empty = torch.zeros((batch_size, 3, side, side), device=device)
    network.compile(backend=backend)
    try:  # forward alone: the backward pass would set off what several processes do together
        network(empty, torch.zeros(batch_size, dtype=torch.int64, device=device))
    except Exception as error:  # whatever a compiler raises on a machine that lacks its tools
        network._compiled_call_impl = None
        if distributed.is_first():
            # The compiler that failed, then why.
            reason = " ".join((str(error).strip() or type(error).__name__).splitlines()[:2])
            print(
                f"train: the network cannot be compiled here ({reason}); going on without. Set "
                "train.compile to false to be rid of this line.",
                file=sys.stderr,
            )


def check_scale(scaler: Any, epoch: int) -> None:
    """ParamsError where fp16's scaler (None for other arithmetic) has given up.

    It halves its scale at each overflow and begins at 65,536: below 1 the gradients themselves do
    not fit.
    """
    if scaler is not None and scaler.get_scale() < 1:
        raise ParamsError(
            f"train.precision fp16 overflows at every update (epoch {epoch}) and does not recover; "
            "set train.precision to bf16 or fp32, or lower train.learning_rate. What was saved "
            "before is kept."
        )
