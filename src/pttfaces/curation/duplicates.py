"""Finds crops that look the same by their perceptual hashes, exactly, without comparing all pairs.

Two hashes that differ in few bits differ in fewer still in one of their 64-bit words, and of that
word in one of its pieces, by the pigeonhole principle. Only hashes that agree so far in a piece are
compared (multi-index hashing: Norouzi, Punjani & Fleet, 2012).

For 54,000 hashes of 256 bits this takes 1.4 CPU seconds, faiss 1.15 1.6 by comparing all pairs
(IndexBinaryFlat) and 160 by IndexBinaryMultiHash; for 1,000,000 this takes 49, faiss, by its 21 for
200,000, about 530.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pttfaces.faces.parallel import ordered_map
from pttfaces.faces.quality import HASH_BITS, MIRROR_BITS
from pttfaces.progress import progress

_SURE_BITS = 30  # neither drawn faces nor photographs of two people differ in so few
_WORD = 64  # bits
_BLOCK = 1 << 17  # comparisons at once, whose results stay in a core's cache


def find_copies(hashes: Sequence[str], max_bits: int | None) -> np.ndarray:
    """The indices (P, 2) of every two crops that are copies, the smaller one first, sorted.

    hashes: of `quality.perceptual_hash`; max_bits: how many bits of 256 copies differ in at most,
    on average over the hashes of a crop; None: _SURE_BITS, for the split alone. A mirror image is
    a copy.
    """
    if len(hashes) < 2:
        return np.empty((0, 2), np.int64)
    length, bits = len(hashes[0]), _SURE_BITS if max_bits is None else max_bits
    flips = hash_words(["0" * length, MIRROR_BITS[:length]])
    return similar_pairs(hash_words(hashes), _limit(length, bits), flips)


def find_similar(hashes: Sequence[str], others: Sequence[str], max_bits: int) -> np.ndarray:
    """Whether each of the hashes (N) is of a copy of one of the others, (N,) bool.

    max_bits: as in `find_copies`. Where some lack the middle's hash, only the whole crops compare.
    """
    found = np.zeros(len(hashes), bool)
    if not (len(hashes) and others):
        return found
    length = min(map(len, (*hashes, *others)))
    words, searched = (hash_words([text[:length] for text in each]) for each in (hashes, others))
    for flip in hash_words(["0" * length, MIRROR_BITS[:length]]):
        for word in searched ^ flip:
            found |= count_differing(words, word) <= _limit(length, max_bits)
    return found


def _limit(length: int, max_bits: int) -> int:
    """The limit for all hashes of a crop together. length: theirs, in hex digits."""
    return 4 * length // HASH_BITS * max_bits


def hash_words(hashes: Sequence[str]) -> np.ndarray:
    """Hashes in hex, of equal length, as (N, W) uint64."""
    digits = np.frombuffer(bytes.fromhex("".join(hashes)), ">u8")
    return digits.astype(np.uint64).reshape(len(hashes), -1)


def count_differing(words: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How many bits differ: (…, W) and (…, W) uint64 → (…)."""
    return np.bitwise_count(words ^ others).sum(axis=-1, dtype=np.int64)


def similar_pairs(words: np.ndarray, max_bits: int, flips: np.ndarray) -> np.ndarray:
    """The indices (P, 2) of every two hashes that differ in at most `max_bits` bits once the bits
    of one of the `flips` are inverted in either; the smaller index first, sorted.

    words: (N, W) uint64; flips: (F, W) uint64, with a row of 0 for hashes as they are.
    """
    pieces, count = _divide(len(words), words.shape[1], max_bits), len(words)
    parts = list(itertools.product(flips, pieces))
    found = np.empty(0, np.int64)  # first × count + second, each pair once
    with progress("compare crops", len(parts), " parts") as bar:
        search = ordered_map(lambda part: part[1].similar_pairs(words, max_bits, part[0]), parts)
        for _, (first, second) in search:
            found = np.union1d(found, np.minimum(first, second) * count + np.maximum(first, second))
            bar.update()
    return np.stack(np.divmod(found, count), axis=1)


def _divide(count: int, words: int, max_bits: int) -> "list[_Piece]":
    """Pieces of every word. The wider, the fewer hashes share a value, but the more values there
    are to look up: this width was the fastest from 20,000 to 1,000,000 hashes.

    Of pieces whose limit is −1 none is needed.
    """
    width = max(int(np.log2(count)) - 7, 4)  # bits
    edges = np.linspace(0, _WORD, _WORD // width + 1).astype(int).tolist()
    return [
        _Piece(word, start, end - start, piece_bits, word_bits)
        for word, word_bits in enumerate(_share(max_bits, words))
        for (start, end), piece_bits in zip(
            itertools.pairwise(edges), _share(word_bits, len(edges) - 1), strict=True
        )
        if piece_bits >= 0
    ]


def _share(bits: int, parts: int) -> list[int]:
    """A limit for each part, one of which every two keep that differ in at most `bits` bits.

    If all of them were exceeded, the parts together would differ in more: the limits plus one each
    add up to bits + 1.
    """
    return [(bits + 1 - parts + part) // parts for part in range(parts)]


@dataclass(frozen=True)
class _Piece:
    """Bits `start` … `start + width` of a word.

    max_bits, max_word_bits: what two hashes differ in at most, in the piece and in the word.
    """

    word: int
    start: int
    width: int
    max_bits: int
    max_word_bits: int

    def similar_pairs(self, words: np.ndarray, max_bits: int, flip: np.ndarray) -> np.ndarray:
        """As the function, those that do not differ in more here; their indices, (2, P)."""
        values = self._of(words)
        order = np.argsort(values, kind="stable")
        ordered, inverted = words[order, self.word], flip[self.word]
        starts = np.searchsorted(values[order], np.arange(2**self.width + 1))
        changes = np.arange(2**self.width)
        changes = changes[np.bitwise_count(changes) <= self.max_bits] ^ self._of(flip)
        found = [np.empty((2, 0), np.int64)]
        for value in np.flatnonzero(np.diff(starts)):
            others = value ^ changes
            others = others[others >= value]  # each two values once
            near = _ranges(starts[others], starts[others + 1])  # places in `ordered`
            compared = ordered[near] ^ inverted
            step = max(1, _BLOCK // max(1, len(near)))
            for begin in range(starts[value], starts[value + 1], step):
                block = ordered[begin : min(begin + step, starts[value + 1])]
                hits = np.flatnonzero(
                    np.bitwise_count(block[:, None] ^ compared) <= self.max_word_bits
                )
                if len(hits):
                    rows, columns = np.divmod(hits, len(near))
                    pairs = order[begin + rows], order[near[columns]]
                    differing = count_differing(words[pairs[0]], words[pairs[1]] ^ flip)
                    # Within one value both orders are compared.
                    is_pair = (differing <= max_bits) & (begin + rows < near[columns])
                    found.append(np.stack(pairs)[:, is_pair])
        return np.concatenate(found, axis=1)

    def _of(self, words: np.ndarray) -> np.ndarray:
        """The piece's value in each hash: (…, W) uint64 → (…) int64."""
        shifted = words[..., self.word] >> np.uint64(self.start)
        return (shifted & np.uint64((1 << self.width) - 1)).astype(np.int64)


def _ranges(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """start … end − 1 of every range, one after the other."""
    lengths = ends - starts
    before = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(starts - before, lengths)
