import io

import numpy as np
from faces_support import Portrait, encoded
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pttfaces.curation import duplicates
from pttfaces.faces import quality


def test_find_duplicates_by_perceptual_hash_finds_a_smaller_jpeg_copy_alone(
    portraits: list[Portrait],
) -> None:
    crops = [Image.fromarray(portrait.pixels).resize((256, 256)) for portrait in portraits[:4]]
    copy = Image.open(io.BytesIO(encoded(crops[0].resize((150, 150)), "JPEG", quality=70)))
    hashes = [quality.perceptual_hash(np.asarray(crop)) for crop in crops]
    hashes.append(quality.perceptual_hash(np.asarray(copy.resize((256, 256)))))
    assert {4 * len(text) for text in hashes} == {quality.HASH_BITS}
    assert duplicates.find_duplicates(hashes, 30) == [None, None, None, None, 0]
    assert list(duplicates.find_pairs(hashes, 30)) == [(0, 4)]


@given(hashes=st.lists(st.binary(min_size=32, max_size=32), max_size=30), bits=st.integers(0, 128))
def test_find_duplicates_of_any_hashes_keeps_no_two_alike(hashes: list[bytes], bits: int) -> None:
    """Every duplicate is alike the original that it names."""

    def differing(left: int, right: int) -> int:
        numbers = [int.from_bytes(hashes[index]) for index in (left, right)]
        return (numbers[0] ^ numbers[1]).bit_count()

    found = duplicates.find_duplicates([content.hex() for content in hashes], bits)
    kept = [index for index, original in enumerate(found) if original is None]
    assert all(differing(a, b) > bits for a in kept for b in kept if a < b)
    assert all(differing(index, of) <= bits for index, of in enumerate(found) if of is not None)
    assert all(of in kept for of in found if of is not None)
