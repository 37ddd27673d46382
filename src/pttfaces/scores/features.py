"""Features of pictures, from one of two networks, computed once for each content.

The networks and the names of their scores live here; what is made of features lives elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from pttfaces import files
from pttfaces import pictures as picture_files
from pttfaces.errors import DataError
from pttfaces.progress import progress
from pttfaces.scores import frechet
from pttfaces.scores.folder import Pictures


@dataclass(frozen=True)
class Features:
    """What is known of a set of pictures: its features (N, dims) float32, and their statistics."""

    rows: np.ndarray
    statistics: frechet.Statistics


@dataclass(frozen=True)
class Extractor:
    """A network that turns pictures (B, 3, H, W) in 0..1 into features (B, dims).

    digest: SHA-256 of its weights; two distances can be compared where it is equal.
    code: SHA-256 of the code that makes features of pictures.
    distance_name, kid_name: what its scores are called. Only Inception's may be called FID.
    batch_size: pictures read and embedded at once. cache: where `embed_once` keeps features.
    """

    name: str
    dims: int
    digest: str
    code: str
    distance_name: str
    kid_name: str
    network: Callable[[torch.Tensor], torch.Tensor]
    batch_size: int
    cache: Path

    def embed(self, pictures: Pictures) -> Features:
        """Features of all pictures, in order. DataError: fewer than two, or not readable."""
        if len(pictures) < 2:
            raise DataError(f"{pictures.folder} holds one picture; a score needs two at least.")
        device, parts = _device(), []
        with (
            torch.inference_mode(),
            progress(f"features of {pictures.folder}", len(pictures), " pictures") as bar,
        ):
            for batch in pictures.batches(self.batch_size):
                pixels = torch.from_numpy(batch).to(device).permute(0, 3, 1, 2) / 255
                parts.append(self.network(pixels).cpu().numpy())
                bar.update(len(batch))
        rows = np.concatenate(parts)
        return Features(rows, frechet.statistics(rows))

    def embed_once(self, pictures: Pictures) -> Features:
        """As `embed`, from the cache where the same pictures went through this network before.

        What is kept is a `.npz` that pytorch-fid reads, too.
        """
        key = files.digest_json([self.code, self.digest, self.dims, pictures.digest()])
        path = self.cache / f"{key[:32]}.npz"
        if path.exists():
            try:
                statistics, arrays = frechet.read_npz(path, self.dims)
                return Features(arrays["rows"], statistics)
            except (DataError, KeyError):
                path.unlink()  # a damaged file of our own is made anew
        found = self.embed(pictures)
        frechet.write_npz(path, found.statistics, rows=found.rows, network=np.array(self.digest))
        return found

    def read_statistics(self, path: Path) -> frechet.Statistics:
        """Statistics that someone made with this network.

        A file that says which network it is of has to name this one; one that does not is taken
        for pytorch-fid's. DataError: another network, or what `frechet.read_npz` refuses.
        """
        statistics, arrays = frechet.read_npz(path, self.dims)
        made_by = str(arrays["network"]) if "network" in arrays else None
        if made_by != self.digest and (made_by or self.name != "inception"):
            raise DataError(
                f"{path} was not made with the network of evaluate.features: {self.name}; name "
                "statistics of the same features, or set evaluate.features to theirs."
            )
        return statistics


def make_extractor(
    name: str, dims: int, weights: str | None, batch_size: int, cache: Path
) -> Extractor:
    """The extractor called `inception` or `random`.

    weights: the file of Inception's weights; None looks it up. WeightsError: they are not to be
    had, or have a wrong digest.
    """
    if name == "inception":
        from pttfaces.scores import inception  # takes seconds

        path = inception.find_weights(weights)
        trained = inception.load(path, dims).to(_device())
        by = files.digest_file(path), _code_digest(inception)
        return Extractor(name, dims, *by, "fid", "kid", trained, batch_size, cache)
    from pttfaces.scores import untrained

    drawn = untrained.UntrainedVGG(dims)
    by = drawn.digest, _code_digest(untrained)
    names = "random_feature_distance", "random_feature_kid"
    return Extractor(name, dims, *by, *names, drawn.to(_device()), batch_size, cache)


def _code_digest(network: ModuleType) -> str:
    return files.code_digest(network, picture_files, frechet, Path(__file__))


def _device() -> torch.device:
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
