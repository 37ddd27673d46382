"""What depends on the device: compilation."""

import pytest
import tiny_training as tiny
import torch

from pttfaces.diffusion import devices, unet


def test_compile_in_place_when_the_compiler_fails_warns_and_keeps_the_network(
    capsys: pytest.CaptureFixture[str],
) -> None:
    network = unet.build(tiny.MODEL.model_copy(update={"dropout": 0.0}), tiny.SIZE, seed=1)
    noisy_images, t = torch.randn(2, 3, 16, 16), torch.tensor([3.0, 700.0])
    expected = network(noisy_images, t).sample

    def broken(*_: object) -> None:
        raise RuntimeError("no compiler found")

    devices.compile_in_place(network, 2, backend=broken)  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert "no compiler found" in said
    assert "training without" in said
    assert torch.equal(network(noisy_images, t).sample, expected)
    devices.compile_in_place(network, 2, backend="eager")
    assert capsys.readouterr().err == ""
    assert torch.allclose(network(noisy_images, t).sample, expected, atol=1e-5)
