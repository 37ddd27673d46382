"""Model folders: what is refused, and what their digest is of."""

from pathlib import Path

import pytest
import tiny_training as tiny
from diffusers import DDPMPipeline, DDPMScheduler

from pttfaces.diffusion import model_folder
from pttfaces.errors import DataError


def test_load_model_of_a_missing_incomplete_or_foreign_folder_raises_data_error(
    tmp_path: Path,
) -> None:
    with pytest.raises(DataError, match="holds no model; train one"):
        model_folder.load_model(tmp_path / "nothing", "cpu")
    half = tmp_path / "half"
    model_folder.save_model(half, tiny.model(), {})
    next((half / "unet").glob("*.safetensors")).unlink()
    with pytest.raises(DataError, match="not a complete diffusers model"):
        model_folder.load_model(half, "cpu")
    foreign = tmp_path / "foreign"
    scheduler = DDPMScheduler(beta_schedule="scaled_linear")
    DDPMPipeline(tiny.build(), scheduler).save_pretrained(foreign)
    with pytest.raises(DataError, match="scaled_linear"):
        model_folder.load_model(foreign, "cpu")


def test_digest_of_a_model_covers_weights_and_configs_and_not_the_card(tmp_path: Path) -> None:
    model_folder.save_model(tmp_path / "one", tiny.model(), {"epoch": 1})
    model_folder.save_model(tmp_path / "two", tiny.model(), {"epoch": 2})
    model_folder.save_model(tmp_path / "other", tiny.model(seed=1), {"epoch": 1})
    digest = model_folder.digest(tmp_path / "one")
    assert model_folder.digest(tmp_path / "two") == digest
    assert model_folder.digest(tmp_path / "other") != digest
    (tmp_path / "two/README.md").unlink()
    assert model_folder.digest(tmp_path / "two") == digest
    config = tmp_path / "two/scheduler/scheduler_config.json"
    config.write_text(config.read_text().replace("v_prediction", "epsilon"))
    assert model_folder.digest(tmp_path / "two") != digest
