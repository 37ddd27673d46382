"""Crops that look the same, by their perceptual hashes, however they were encoded or resized.

Knows hashes only.
"""

from collections.abc import Iterator, Sequence

import numpy as np

_WORD_BYTES = 8


def repeats(hashes: Sequence[str], distance: int) -> list[int | None]:
    """For each hash the place of the one that it repeats, or None for one that is new.

    hashes: of equal length, in hex, the preferred ones first; distance: two are alike when at most
    this many bits differ. A repeated one is always new itself: of a chain of likenesses those are
    kept that are no more alike than `distance`.
    """
    words = _words(hashes)
    kept = np.empty_like(words)
    places: list[int] = []
    found: list[int | None] = []
    for place, word in enumerate(words.T):
        near = np.flatnonzero(_differing(kept[:, : len(places)], word) <= distance)
        if len(near):
            found.append(places[near[0]])
        else:
            kept[:, len(places)] = word
            places.append(place)
            found.append(None)
    return found


def likenesses(hashes: Sequence[str], distance: int) -> Iterator[tuple[int, int]]:
    """The places (first, second) of every two hashes that are alike, as in `repeats`."""
    words = _words(hashes)
    for place, word in enumerate(words.T):
        near = np.flatnonzero(_differing(words[:, :place], word) <= distance)
        yield from ((int(first), place) for first in near)


def alike(hashes: Sequence[str], others: Sequence[str], distance: int) -> list[int]:
    """The places in `others` of hashes that are alike one of `hashes`, as in `repeats`."""
    if not hashes or not others:
        return []
    there = _words(others)
    near = [_differing(there, word) <= distance for word in _words(hashes).T]
    return [int(place) for place in np.flatnonzero(np.any(near, axis=0))]


def _differing(words: np.ndarray, word: np.ndarray) -> np.ndarray:
    """How many bits differ: (W, N) and (W,) → (N,)."""
    # Word by word: numpy is several times slower at summing over a short axis.
    total = np.zeros(words.shape[1], np.uint16)
    for row, bits in zip(words, word, strict=True):
        total += np.bitwise_count(row ^ bits)
    return total


def _words(hashes: Sequence[str]) -> np.ndarray:
    """(W, N) uint64."""
    length = len(hashes[0]) // 2 if hashes else _WORD_BYTES
    whole = -(-length // _WORD_BYTES) * _WORD_BYTES
    content = b"".join(bytes.fromhex(text).rjust(whole, b"\0") for text in hashes)
    return np.frombuffer(content, np.uint64).reshape(-1, whole // _WORD_BYTES).T.copy()
