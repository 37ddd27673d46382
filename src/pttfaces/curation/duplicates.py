"""Finds crops that look the same by their perceptual hashes, however they were encoded or resized.

Hashes are of equal length, in hex; two are similar when at most `max_bits` of their bits differ.
"""

from collections.abc import Iterator, Sequence

import numpy as np

_WORD_BYTES = 8


def find_duplicates(hashes: Sequence[str], max_bits: int) -> list[int | None]:
    """For each hash the index of the one that it is a duplicate of; None for one that stays.

    hashes: the preferred ones first. An original is not a duplicate itself: of a chain of
    look-alikes, those stay that are not similar to each other.
    """
    words = _words(hashes)
    compared = np.empty_like(words)  # its first columns: the words of `originals`
    originals: list[int] = []
    found: list[int | None] = []
    for index, word in enumerate(words.T):
        near = np.flatnonzero(_count_differing(compared[:, : len(originals)], word) <= max_bits)
        if len(near):
            found.append(originals[near[0]])
        else:
            compared[:, len(originals)] = word
            originals.append(index)
            found.append(None)
    return found


def find_pairs(hashes: Sequence[str], max_bits: int) -> Iterator[tuple[int, int]]:
    """The indices (first, second) of every two hashes that are similar."""
    words = _words(hashes)
    for second, word in enumerate(words.T):
        near = np.flatnonzero(_count_differing(words[:, :second], word) <= max_bits)
        yield from ((int(first), second) for first in near)


def _count_differing(words: np.ndarray, word: np.ndarray) -> np.ndarray:
    """How many bits differ: (W, N) and (W,) → (N,)."""
    # Word by word: numpy is several times slower at summing over a short axis.
    total = np.zeros(words.shape[1], np.uint16)
    for row, bits in zip(words, word, strict=True):
        total += np.bitwise_count(row ^ bits)
    return total


def _words(hashes: Sequence[str]) -> np.ndarray:
    """(W, N) uint64."""
    length = len(hashes[0]) // 2 if hashes else _WORD_BYTES
    padded = -(-length // _WORD_BYTES) * _WORD_BYTES
    content = b"".join(bytes.fromhex(text).rjust(padded, b"\0") for text in hashes)
    return np.frombuffer(content, np.uint64).reshape(-1, padded // _WORD_BYTES).T.copy()
