"""Features of pictures, from one of two networks, computed once for each content.

The networks and the names of their scores live here; what is made of features lives elsewhere.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from pttfaces import files
from pttfaces import images as picture_files
from pttfaces.config import Evaluate
from pttfaces.diffusion import memory
from pttfaces.errors import DataError
from pttfaces.evaluation import fid
from pttfaces.evaluation.image_folder import Pictures
from pttfaces.progress import progress


@dataclass(frozen=True)
class Features:
    """What is known of a set of pictures: its features (N, dims) float32, and their statistics."""

    rows: np.ndarray
    statistics: fid.Statistics


@dataclass(frozen=True)
class Extractor:
    """A network that turns pictures (B, 3, H, W) in 0..1 into features (B, dims).

    digest: SHA-256 of its weights; two distances can be compared where it is equal.
    code: SHA-256 of the code that makes features of pictures.
    distance_name, kid_name: what its scores are called; FID and KID are by pytorch-fid's weights.
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
        rows = np.concatenate(list(self._batches(pictures)))
        return Features(rows, fid.statistics(rows))

    def embed_once(self, pictures: Pictures) -> Features:
        """As `embed`, from the cache where the same pictures went through this network before.

        What is kept is a `.npz` that pytorch-fid reads, too.
        """
        path = self._kept(pictures)
        try:
            statistics, arrays = fid.read_npz(path, self.dims, "rows")
            return Features(arrays["rows"], statistics)
        except (DataError, KeyError):  # none yet, a damaged one of our own, or one without rows
            found = self.embed(pictures)
        self.write_statistics(path, found.statistics, rows=found.rows)
        return found

    def statistics_once(self, pictures: Pictures) -> fid.Statistics:
        """The statistics alone, from the cache or anew; memory does not grow with the pictures.

        DataError: as `embed`.
        """
        path = self._kept(pictures)
        try:
            return fid.read_npz(path, self.dims)[0]
        except DataError:
            moments = fid.Moments()
        for batch in self._batches(pictures):
            moments.add(batch)
        self.write_statistics(path, moments.statistics())
        return moments.statistics()

    def write_statistics(
        self, path: str | Path, statistics: fid.Statistics, **more: np.ndarray
    ) -> None:
        """A `.npz` that pytorch-fid reads, too, with the network's digest beside it."""
        fid.write_npz(path, statistics, network=np.array(self.digest), **more)

    def _kept(self, pictures: Pictures) -> Path:
        key = files.digest_json([self.code, self.digest, self.dims, pictures.digest()])
        return self.cache / f"{key[:32]}.npz"

    def _batches(self, pictures: Pictures) -> Iterator[np.ndarray]:
        """Features (B, dims) float32 of the pictures, in order."""
        if len(pictures) < 2:
            raise DataError(f"{pictures.folder} holds one picture; a score needs two at least.")
        device = _device()
        memory.keep_freed()
        with progress(f"features of {pictures.folder}", len(pictures), " pictures") as bar:
            for batch in pictures.batches(self.batch_size):
                with torch.inference_mode():
                    pixels = torch.from_numpy(batch).to(device).permute(0, 3, 1, 2) / 255
                    features = self.network(pixels).cpu().numpy()
                yield features
                bar.update(len(batch))

    def read_statistics(self, path: Path) -> fid.Statistics:
        """Statistics that someone made with this network.

        A file that says which network it is of has to name this one; one that does not is taken
        for pytorch-fid's. DataError: another network, or what `frechet.read_npz` refuses.
        """
        statistics, arrays = fid.read_npz(path, self.dims, "network")
        made_by = str(arrays["network"]) if "network" in arrays else None
        if made_by != self.digest and (made_by or self.name != "inception"):
            raise DataError(
                f"{path} was not made with the network of evaluate.features: {self.name}; name "
                "statistics of the same features, or set evaluate.features to theirs."
            )
        return statistics


def make_extractor(options: Evaluate, cache: Path) -> Extractor:
    """The extractor that evaluate.features names; cache: a folder for what it computes.

    Scores by other weights than pytorch-fid's, which evaluate.weights_sha256 allows, have names of
    their own. WeightsError: weights are missing, or have a wrong digest.
    """
    dims, batch_size = options.dims, options.batch_size
    if options.features == "inception":
        from pttfaces.evaluation import inception  # takes seconds

        path = inception.find_weights(options.weights, options.weights_sha256)
        trained = inception.load(path, dims).to(_device())
        digest = files.digest_file(path)
        known = digest.startswith(inception.SHA256_PREFIX)
        names = ("fid", "kid") if known else ("inception_distance", "inception_kid")
        code = _code_digest(inception)
        return Extractor("inception", dims, digest, code, *names, trained, batch_size, cache)
    from pttfaces.evaluation import random_features

    drawn = random_features.UntrainedVGG(dims)
    names, code = ("random_feature_distance", "random_feature_kid"), _code_digest(random_features)
    network = drawn.to(_device())
    return Extractor("random", dims, drawn.digest, code, *names, network, batch_size, cache)


def _code_digest(network: ModuleType) -> str:
    return files.code_digest(network, picture_files, fid, Path(__file__))


def _device() -> torch.device:
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
