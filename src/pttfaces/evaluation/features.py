"""Computes image features with one of two networks, and caches them by content."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pttfaces import files
from pttfaces.config import Evaluate
from pttfaces.diffusion import distributed, memory, threads
from pttfaces.errors import DataError
from pttfaces.evaluation import fid
from pttfaces.evaluation.image_folder import ImageFolder
from pttfaces.progress import progress


@dataclass(frozen=True)
class Features:
    """A set of images as features (N, dims) float32, and the statistics of these."""

    rows: np.ndarray
    statistics: fid.Statistics


@dataclass(frozen=True)
class Extractor:
    """A network that turns images (B, 3, H, W) in 0..1 into features (B, dims).

    digest: SHA-256 of its weights; two distances can be compared where it is equal.
    cache_version: of the code that computes features.
    distance_name, kid_name: the names of its scores: fid and kid with pytorch-fid's weights only.
    batch_size: images read and embedded at once. cache: where `embed_once` keeps features.
    """

    name: str
    dims: int
    digest: str
    cache_version: str
    distance_name: str
    kid_name: str
    network: Callable[[torch.Tensor], torch.Tensor]
    batch_size: int
    cache: Path

    def embed(self, images: ImageFolder) -> Features:
        """Features of all images, in order. DataError: fewer than two, or not readable."""
        rows = np.concatenate(list(self._batches(images)))
        return Features(rows, fid.statistics(rows))

    def embed_once(self, images: ImageFolder) -> Features:
        """As `embed`, from the cache where the same images went through this network before.

        The cached file is a `.npz` that pytorch-fid reads, too.
        """
        path = self._cached(images)
        try:
            statistics, arrays = fid.read_npz(path, self.dims, "rows")
            return Features(arrays["rows"], statistics)
        except (DataError, KeyError):  # none yet, a damaged one of our own, or one without rows
            features = self.embed(images)
        self.write_statistics(path, features.statistics, rows=features.rows)
        return features

    def statistics(self, source: ImageFolder | Path) -> fid.Statistics:
        """Statistics of a folder's images, cached, or those that someone wrote to a `.npz`.

        Memory does not grow with the number of images. A file that names its network has to name
        this one; one that does not counts as pytorch-fid's. DataError: another network, or as
        `embed` and `fid.read_npz`.
        """
        if isinstance(source, Path):
            return self._read(source)
        path = self._cached(source)
        try:
            return fid.read_npz(path, self.dims)[0]
        except DataError:
            moments = fid.Moments()
        for batch in self._batches(source):
            moments.add(batch)
        self.write_statistics(path, moments.statistics())
        return moments.statistics()

    def write_statistics(
        self, path: str | Path, statistics: fid.Statistics, **more: np.ndarray
    ) -> None:
        """Writes a `.npz` that pytorch-fid reads, too, with the network's digest beside it."""
        fid.write_npz(path, statistics, network=np.array(self.digest), **more)

    def _read(self, path: Path) -> fid.Statistics:
        statistics, arrays = fid.read_npz(path, self.dims, "network")
        made_by = str(arrays["network"]) if "network" in arrays else None
        if made_by != self.digest and (made_by or self.distance_name != "fid"):
            what = "was not made" if made_by else "does not say that it was made"
            raise DataError(
                f"{path} {what} with the network and weights of evaluate.features: {self.name}; "
                f"make it with `pttfaces distance --save {path} FOLDER`, or set evaluate.features "
                "to its own."
            )
        return statistics

    def _cached(self, images: ImageFolder) -> Path:
        key = files.digest_json([self.cache_version, self.digest, self.dims, images.digest])
        return self.cache / f"{key[:32]}.npz"

    def _batches(self, images: ImageFolder) -> Iterator[np.ndarray]:
        """Features (B, dims) float32 of the images, in order."""
        if len(images) < 2:
            raise DataError(f"{images.folder} holds one image; a score needs at least two.")
        device = distributed.state().device
        memory.keep_freed_memory()
        with (
            threads.yield_to_others(),
            progress(f"features of {images.folder}", len(images), " images") as bar,
        ):
            for batch in images.batches(self.batch_size):
                with torch.inference_mode():
                    pixels = torch.from_numpy(batch).to(device).permute(0, 3, 1, 2) / 255
                    features = self.network(pixels).cpu().numpy()
                yield features
                bar.update(len(batch))


def make_extractor(options: Evaluate, cache: Path) -> Extractor:
    """The extractor that evaluate.features names; cache: a folder for what it computes.

    Scores by other weights than the published ones, which evaluate.weights_sha256 allows, have
    other names. WeightsError: weights are missing, or have a wrong digest.
    """
    network: torch.nn.Module
    if options.features == "random":
        from pttfaces.evaluation import random_features

        network = random_features.RandomVGG(options.dims)
        digest, version = network.digest, random_features.CACHE_VERSION
        distance, kid = "random_feature_distance", "random_feature_kid"
    else:
        from pttfaces.evaluation import inception  # takes seconds

        path = inception.find_weights(options.features, options.weights, options.weights_sha256)
        network = inception.load_inception(path, options.dims, options.features)
        digest, version = files.digest_file(path), inception.CACHE_VERSION
        distance, kid = "inception_distance", "inception_kid"
        if digest.startswith(inception.SHA256_PREFIXES[options.features]):
            suffix = "_torchvision" if options.features == "torchvision" else ""
            distance, kid = f"fid{suffix}", f"kid{suffix}"
    return Extractor(
        name=options.features,
        dims=options.dims,
        digest=digest,
        cache_version=version,
        distance_name=distance,
        kid_name=kid,
        network=network.to(distributed.state().device),
        batch_size=options.batch_size,
        cache=cache,
    )
