"""What a kill, a full disk or a bad sector makes of a file: its beginning, or one changed byte."""

from dataclasses import dataclass

from hypothesis import strategies as st


@dataclass(frozen=True)
class Damage:
    """place: share of the file, 0…1; change: what that byte is XORed with, 0: it ends there."""

    place: float
    change: int

    def of(self, content: bytes) -> bytes:
        at = int(self.place * len(content))
        if not self.change:
            return content[:at]
        return content[:at] + bytes([content[at] ^ self.change]) + content[at + 1 :]


DAMAGES = st.builds(
    Damage,
    st.floats(0, 1, exclude_max=True),
    st.just(0) | st.integers(1, 255) | st.sampled_from([1 << bit for bit in range(8)]),
)
