"""What the store remembers of the files that it has checked saves time and decides nothing."""

import hashlib
import os
from pathlib import Path

import pytest
from damage import DAMAGES, Damage
from hypothesis import given
from hypothesis import strategies as st

from pttfaces.download.result import Picture
from pttfaces.download.store import Store


@given(DAMAGES, st.booleans())
def test_a_damaged_memory_changes_no_answer(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage, changed: bool
) -> None:
    root = tmp_path_factory.mktemp("store")
    memory = root / "checked.txt"
    store, kept = Store(root / "raw", memory), []
    for number in range(2):
        content = bytes([number]) * 99
        with store.part() as part:
            part.write(content)
            digest = hashlib.sha256(content).hexdigest()
            kept.append(Picture(digest, len(content), "JPEG", 1, 1, True))
            store.keep(part, kept[-1])
    store.remember({picture.path for picture in kept})
    if changed:
        path = Path(root, "raw", kept[0].path)
        path.write_bytes(bytes([7]) * 99)
        os.utime(path, ns=(1, 1))
    memory.write_bytes(damage.of(memory.read_bytes()))
    again = Store(root / "raw", memory)
    assert [again.has(picture) for picture in kept] == [not changed, True]
