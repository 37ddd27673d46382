"""Nearest neighbours of 10,000 samples among 50,000 training images, in 2,048 dimensions.

    PYTHONPATH=src python benchmarks/neighbours.py

Bounds: under 3 minutes on two cores, under 3 GiB. scikit-learn's brute force on the first thousand
samples has to find the same images.
"""

import argparse
import sys
import time

import numpy as np
from sklearn.neighbors import NearestNeighbors

from pttfaces.evaluation import memorization

FEW = 1000


def peak_gib() -> float:
    """Peak memory of this process."""
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**30 if sys.platform == "darwin" else 2**20
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the nearest neighbours in features.")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--trained", type=int, default=50_000)
    parser.add_argument("--dims", type=int, default=2048)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    # Features of images: positive, most of their variance in few directions.
    mixing = rng.normal(size=(32, options.dims)).astype(np.float32)

    def features(count: int) -> np.ndarray:
        rows = rng.standard_normal((count, 32), np.float32) @ mixing
        rows += rng.standard_normal((count, options.dims), np.float32)
        return np.maximum(rows, 0, out=rows)

    trained, samples = features(options.trained), features(options.samples)
    started, before = time.perf_counter(), time.process_time()
    found = memorization.nearest([samples], trained)
    seconds, processor = time.perf_counter() - started, time.process_time() - before
    peak = peak_gib()
    print(f"{len(samples)} among {len(trained)}, {options.dims} dimensions")
    print(f"ours: {seconds:.1f} s, {processor:.1f} s of the processor (bound: 180 s)")
    print(f"peak of the process: {peak:.2f} GiB, with the features (bound: 3 GiB)")
    few = samples[:FEW]
    started, before = time.perf_counter(), time.process_time()
    memorization.nearest([few], trained)
    own = time.perf_counter() - started, time.process_time() - before
    started, before = time.perf_counter(), time.process_time()
    index = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(trained).kneighbors(few)[1]
    peer = time.perf_counter() - started, time.process_time() - before
    print(f"{len(few)} samples: ours {own[0]:.1f} s ({own[1]:.1f} s of the processor),")
    print(f"scikit-learn's brute force {peer[0]:.1f} s ({peer[1]:.1f} s of the processor)")
    print(f"the same image for {(index[:, 0] == found.index[:FEW]).mean():.2%} of them")


if __name__ == "__main__":
    main()
