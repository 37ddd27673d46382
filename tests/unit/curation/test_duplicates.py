import io
import math

import numpy as np
from faces_support import Portrait, encoded
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pttfaces.curation import duplicates
from pttfaces.faces import quality


def test_find_copies_finds_a_smaller_jpeg_and_a_mirrored_copy_alone(
    portraits: list[Portrait],
) -> None:
    crops = [Image.fromarray(portrait.pixels).resize((256, 256)) for portrait in portraits[:4]]
    small = Image.open(io.BytesIO(encoded(crops[0].resize((150, 150)), "JPEG", quality=70)))
    mirrored = crops[1].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    crops += [small.resize((256, 256)), mirrored]
    hashes = [quality.perceptual_hash(np.asarray(crop)) for crop in crops]
    assert {4 * len(text) for text in hashes} == {quality.HASHES * quality.HASH_BITS}
    assert duplicates.find_copies(hashes, 30).tolist() == [[0, 4], [1, 5]]


def test_find_copies_counts_the_middle_where_the_rest_has_changed(
    portraits: list[Portrait],
) -> None:
    """As where an image was cut and its crop padded."""
    crop = np.asarray(Image.fromarray(portraits[0].pixels).resize((256, 256)))
    cut = crop.copy()
    cut[:40] = cut[:, :40] = 0
    hashes = [quality.perceptual_hash(pixels) for pixels in (crop, cut)]
    whole, middle = (
        duplicates.count_differing(*(duplicates.hash_words([text[part]]) for text in hashes))[0]
        for part in (slice(64), slice(64, None))
    )
    assert (whole > 30, middle) == (True, 0)
    assert len(duplicates.find_copies(hashes, 30)) == 1


@settings(max_examples=20)
@given(
    divided_for=st.sampled_from([2, 2**9, 2**14, 2**20]),
    seed=st.integers(0, 2**32),
    bits=st.integers(0, 128),
    words=st.sampled_from([1, 4, 8]),
    mirrored=st.booleans(),
)
def test_similar_pairs_by_any_pieces_are_those_of_comparing_all(
    divided_for: int, seed: int, bits: int, words: int, mirrored: bool
) -> None:
    """Hashes of which half are copies of others, near the limit on either side."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, (40, words), np.uint64)
    flip = np.full(words, 0x5555555555555555 if mirrored else 0, np.uint64)
    for copy, original in zip(hashes[20:], hashes, strict=False):
        count = int(np.clip(rng.integers(bits - 2, bits + 3), 0, 64 * words))
        changed = np.zeros(64 * words, np.uint8)
        changed[rng.choice(64 * words, count, replace=False)] = 1
        copy[:] = original ^ flip ^ np.packbits(changed).view(np.uint64)
    differing = np.bitwise_count(hashes[:, None] ^ hashes ^ flip).sum(axis=-1)
    expected = np.argwhere(np.triu(differing <= bits, 1))
    found = [
        np.sort(piece.similar_pairs(hashes, bits, flip), axis=0).T
        for piece in duplicates._divide(divided_for, words, bits)
    ]
    assert np.array_equal(np.unique(np.concatenate(found), axis=0), expected)
    assert np.array_equal(duplicates.similar_pairs(hashes, bits, flip[None]), expected)


def test_divide_for_more_hashes_compares_a_smaller_share_of_all_pairs() -> None:
    """Hence the work does not grow with the square."""

    def share(count: int) -> float:
        pieces = duplicates._divide(count, 4, 48)
        values = [sum(math.comb(p.width, bits) for bits in range(p.max_bits + 1)) for p in pieces]
        return sum(n / 2**p.width for n, p in zip(values, pieces, strict=True))

    assert share(10_000) > 4 * share(1_000_000)
