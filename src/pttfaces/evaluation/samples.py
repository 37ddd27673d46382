"""Describes how the samples should have been made, and checks that generate recorded the same."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pttfaces import files
from pttfaces.config import Params
from pttfaces.diffusion import model_folder
from pttfaces.errors import DataError
from pttfaces.sampling import samplers

RECORDED = ("sampler", "infer_steps", "timestep_spacing", "seed", "model_digest")
"""Those that metrics/evaluate.json repeats, so that a score tells which samples it belongs to."""


def sample_settings(params: Params, model: Path) -> dict[str, Any]:
    """What decides the samples, under the names that it has in metrics/generate.json.

    model: the folder of the model that they are sampled from.
    DataError: there is no such folder.
    """
    if not model.is_dir():
        raise files.missing_file_error(model)
    options = params.generate
    return {
        "num_images": options.num_images,
        "sampler": options.sampler,
        "infer_steps": params.infer_steps,
        "timestep_spacing": samplers.effective_spacing(options),
        "seed": params.seed,
        "model_digest": model_folder.digest(model),
    }


def check_settings(recorded: Mapping[str, Any], described: Mapping[str, Any]) -> None:
    """DataError: generate recorded other samples than params.yaml and the model describe.

    A key that one of the two lacks is not compared.
    """
    for key, value in described.items():
        if recorded.get(key, value) != value:
            raise DataError(
                f"the samples in data/generated were made with {key} {recorded[key]}, but "
                f"params.yaml and the model say {value}; run `dvc repro generate`."
            )
