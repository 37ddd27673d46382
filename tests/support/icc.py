"""Colour spaces and ICC profiles of them: a matrix and tone curves (ICC.1:2001-04)."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_ENTRIES = 1024  # of a tone curve


@dataclass(frozen=True)
class ColourSpace:
    """primaries: (3, 2), xy of red, green and blue; white: xy; decode: encoded 0…1 to linear."""

    primaries: tuple[tuple[float, float], ...]
    white: tuple[float, float]
    decode: Callable[[np.ndarray], np.ndarray]

    def to_xyz(self) -> np.ndarray:
        """(3, 3), from linear RGB to XYZ with the white of D50."""
        columns = np.array([_xyz(xy) for xy in self.primaries]).T
        white = _xyz(self.white)
        scaled = columns * np.linalg.solve(columns, white)
        cones = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white))
        adapted: np.ndarray = np.linalg.inv(_BRADFORD) @ cones @ _BRADFORD @ scaled
        return adapted

    def encode(self, linear: np.ndarray) -> np.ndarray:
        """Linear values as encoded ones, 0…1."""
        steps = np.linspace(0, 1, 4096)
        return np.interp(np.clip(linear, 0, 1), self.decode(steps), steps)

    def profile(self) -> bytes:
        """Its ICC profile."""
        curve = np.round(self.decode(np.linspace(0, 1, _ENTRIES)) * 65535).astype(">u2").tobytes()
        trc = b"curv" + bytes(4) + struct.pack(">I", _ENTRIES) + curve
        text = b"made by a test\0"
        desc = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
        tags = {b"desc": desc, b"cprt": b"text" + bytes(4) + text, b"wtpt": _xyz_tag(_D50)}
        for name, column in zip(b"rgb", self.to_xyz().T, strict=True):
            tags[bytes([name]) + b"XYZ"] = _xyz_tag(column)
            tags[bytes([name]) + b"TRC"] = trc
        return _file(b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    """Of grey levels with a gamma."""
    trc = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    return _file(b"GRAY", {b"wtpt": _xyz_tag(_D50), b"kTRC": trc})


def convert(rgb: np.ndarray, source: ColourSpace, target: ColourSpace) -> np.ndarray:
    """Levels (…, 3) uint8 of one space as levels of another."""
    matrix = np.linalg.inv(target.to_xyz()) @ source.to_xyz()
    linear = source.decode(rgb / 255) @ matrix.T
    return np.round(target.encode(linear) * 255).astype(np.uint8)


def _xyz(xy: tuple[float, float]) -> np.ndarray:
    x, y = xy
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _xyz_tag(values: np.ndarray) -> bytes:
    fixed = np.round(values * 65536).astype(">i4").tobytes()
    return b"XYZ " + bytes(4) + fixed


def _file(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, data = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    white = np.round(_D50 * 65536).astype(">i4").tobytes()
    header = struct.pack(
        ">I4xI4s4s4s12x4s", start + len(data), 0x02100000, b"mntr", space, b"XYZ ", b"acsp"
    )
    header += bytes(68 - len(header)) + white
    return header + bytes(128 - len(header)) + table + data


def _srgb_decode(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


_D65 = (0.3127, 0.3290)
SRGB = ColourSpace(((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)), _D65, _srgb_decode)
DISPLAY_P3 = ColourSpace(((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), _D65, _srgb_decode)
ADOBE_RGB = ColourSpace(
    ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), _D65, lambda v: v ** (563 / 256)
)
PROPHOTO = ColourSpace(
    ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)),
    (0.3457, 0.3585),
    lambda values: values**1.8,
)
