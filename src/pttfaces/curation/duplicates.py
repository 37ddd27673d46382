"""Finds crops that look the same by their perceptual hashes, exactly, without comparing all pairs.

Two hashes that differ in few bits differ in fewer still in one of their 64-bit words, and of that
word in one of its pieces, by the pigeonhole principle. Only hashes that agree so far in a piece are
compared (multi-index hashing: Norouzi, Punjani & Fleet, 2012).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pttfaces.faces.parallel import ordered_map
from pttfaces.faces.quality import HASH_BITS, MIRROR_BITS
from pttfaces.progress import progress

_WORD = 64  # bits
_MAX_WIDTH = 16  # bits of a piece: a table of all its values is small
_BLOCK = 1 << 17  # comparisons at once, whose results stay in a core's cache
_KEY_COST = 60_000  # looking up the neighbours of a piece's value takes as long as so many


def find_copies(hashes: Sequence[str], max_bits: int | None) -> np.ndarray:
    """The indices (P, 2) of every two crops that are copies, the smaller one first, sorted.

    hashes: of `quality.perceptual_hash`; max_bits: how many bits of 256 copies differ in at most,
    on average over the hashes of a crop; None: nothing counts as a copy. A mirror image is a copy.
    """
    if max_bits is None or len(hashes) < 2:
        return np.empty((0, 2), np.int64)
    words, mirror = hash_words(hashes), hash_words([MIRROR_BITS[: len(hashes[0])]])
    hashes_a_crop = _WORD * words.shape[1] // HASH_BITS
    return similar_pairs(words, hashes_a_crop * max_bits, np.concatenate([0 * mirror, mirror]))


def find_similar(hashes: Sequence[str], others: Sequence[str], max_bits: int) -> np.ndarray:
    """Whether each of the hashes (N) is of a copy of one of the others, (N,) bool.

    max_bits: as in `find_copies`. Where some lack the middle's hash, only the whole crops compare.
    """
    found = np.zeros(len(hashes), bool)
    if not (len(hashes) and others):
        return found
    length = min(map(len, (*hashes, *others)))
    words, searched = (hash_words([text[:length] for text in each]) for each in (hashes, others))
    limit = _WORD * words.shape[1] // HASH_BITS * max_bits
    for flip in hash_words(["0" * length, MIRROR_BITS[:length]]):
        for word in searched ^ flip:
            found |= count_differing(words, word) <= limit
    return found


def hash_words(hashes: Sequence[str]) -> np.ndarray:
    """Hashes in hex, of equal length, as (N, W) uint64."""
    return (
        np.frombuffer(bytes.fromhex("".join(hashes)), ">u8")
        .astype(np.uint64)
        .reshape(len(hashes), -1)
    )


def count_differing(words: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How many bits differ: (…, W) and (…, W) uint64 → (…)."""
    return np.bitwise_count(words ^ others).sum(axis=-1, dtype=np.int64)


def similar_pairs(words: np.ndarray, max_bits: int, flips: np.ndarray) -> np.ndarray:
    """The indices (P, 2) of every two hashes that differ in at most `max_bits` bits once the bits
    of one of the `flips` are inverted in either; the smaller index first, sorted.

    words: (N, W) uint64; flips: (F, W) uint64, with a row of 0 for hashes as they are.
    """
    pieces = _choose_pieces(len(words), words.shape[1], max_bits)
    searches = [_Search(words, max_bits, flip, pieces) for flip in flips]
    parts = list(itertools.product(searches, range(len(pieces))))
    found = [np.empty((0, 2), np.int64)]
    with progress("compare crops", len(parts), " parts") as bar:
        for _, pairs in ordered_map(lambda part: part[0].pairs_by(part[1]), parts):
            found.append(pairs)
            bar.update()
    return np.unique(np.concatenate(found), axis=0)


@dataclass(frozen=True)
class _Piece:
    """Bits `start` … `start + width` of a word.

    max_bits, max_word_bits: two hashes are compared that differ in at most so many bits of the
    piece, and are similar at most if they differ in at most so many of the word.
    """

    word: int
    start: int
    width: int
    max_bits: int
    max_word_bits: int

    def of(self, words: np.ndarray) -> np.ndarray:
        """The piece's value in each hash: (…, W) uint64 → (…) int64."""
        mask = np.uint64((1 << self.width) - 1)
        return ((words[..., self.word] >> np.uint64(self.start)) & mask).astype(np.int64)

    @property
    def neighbours(self) -> int:
        """How many values differ from a given one in at most `max_bits` bits."""
        return sum(math.comb(self.width, bits) for bits in range(self.max_bits + 1))


def _choose_pieces(count: int, words: int, max_bits: int) -> list[_Piece]:
    """The pieces by which `count` hashes are searched with the least work."""

    def cost(pieces: list[_Piece]) -> float:
        compared = sum(piece.neighbours / 2**piece.width for piece in pieces) * count**2 / 2
        keys = sum(min(count, 2**piece.width) * (_KEY_COST + piece.neighbours) for piece in pieces)
        return compared + keys

    numbers = (1, *range(_WORD // _MAX_WIDTH, _WORD // 4))
    return min((_divide(words, max_bits, number) for number in numbers), key=cost)


def _divide(words: int, max_bits: int, number: int) -> list[_Piece]:
    """Every word in `number` pieces of about equal width; in one of width 0, on which all hashes
    agree, if that is 1."""
    edges = [_WORD * step // number for step in range(number + 1)] if number > 1 else [0, 0]
    return [
        _Piece(word, start, end - start, piece_bits, word_bits)
        for word, word_bits in enumerate(_share(max_bits, words))
        for (start, end), piece_bits in zip(
            itertools.pairwise(edges), _share(word_bits, number) if number > 1 else [0], strict=True
        )
        if word_bits >= 0 and piece_bits >= 0
    ]


def _share(bits: int, parts: int) -> list[int]:
    """A limit for each part, one of which every two keep that differ in at most `bits` bits.

    If all of them were exceeded, the parts together would differ in more: the limits plus one each
    add up to bits + 1. −1: no two that differ in so few bits need this part.
    """
    return [(bits + 1 - parts + part) // parts for part in range(parts)]


@dataclass(frozen=True)
class _Search:
    """A search for the pairs that are similar once the bits `flip` (W,) are inverted in either."""

    words: np.ndarray
    max_bits: int
    flip: np.ndarray
    pieces: list[_Piece]

    def pairs_by(self, number: int) -> np.ndarray:
        """The similar pairs (P, 2) that the piece of that number finds, and none before it."""
        piece = self.pieces[number]
        values = piece.of(self.words)
        order = np.argsort(values, kind="stable")
        ordered, flip = self.words[order, piece.word], self.flip[piece.word]
        starts = np.searchsorted(values[order], np.arange(2**piece.width + 1))
        changes = _small_changes(piece) ^ int(piece.of(self.flip))
        found = [np.empty((0, 2), np.int64)]
        for value in np.flatnonzero(np.diff(starts)):
            others = value ^ changes
            others = others[others >= value]  # each two values once
            near = _ranges(starts[others], starts[others + 1])  # places in `ordered`
            compared = ordered[near]
            step = max(1, _BLOCK // max(1, len(near)))
            for begin in range(starts[value], starts[value + 1], step):
                block = ordered[begin : min(begin + step, starts[value + 1])]
                differing = np.bitwise_count((block ^ flip)[:, None] ^ compared)
                hits = np.flatnonzero(differing <= piece.max_word_bits)
                if len(hits):
                    rows, columns = np.divmod(hits, len(near))
                    first, second = begin + rows, near[columns]
                    once = first < second  # within one value both orders are compared
                    pairs = np.stack([order[first[once]], order[second[once]]], axis=1)
                    found.append(self._verified(pairs, number))
        return np.concatenate(found)

    def _verified(self, pairs: np.ndarray, number: int) -> np.ndarray:
        """Those pairs (P, 2) that are similar and that no earlier piece finds, each sorted."""
        differing = self.words[pairs[:, 0]] ^ self.words[pairs[:, 1]] ^ self.flip
        bits = np.bitwise_count(differing)
        is_new = bits.sum(axis=1, dtype=np.int64) <= self.max_bits
        for piece in self.pieces[:number]:
            found_before = bits[:, piece.word] <= piece.max_word_bits
            found_before &= np.bitwise_count(piece.of(differing)) <= piece.max_bits
            is_new &= ~found_before
        return np.sort(pairs[is_new], axis=1)


def _small_changes(piece: _Piece) -> np.ndarray:
    """All values of a piece with at most `max_bits` bits set, (K,) int64."""
    return np.array(
        [
            sum(1 << bit for bit in bits)
            for count in range(piece.max_bits + 1)
            for bits in itertools.combinations(range(piece.width), count)
        ],
        np.int64,
    )


def _ranges(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """start … end − 1 of every range, one after the other."""
    lengths = ends - starts
    before = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(starts - before, lengths)
