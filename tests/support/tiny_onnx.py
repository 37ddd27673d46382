"""A network with SFace's interface, as the bytes of an ONNX file: 112×112 pixels to features.

Its one layer weighs patches at random, with a mean of 0, so that features say how a face looks.
"""

import numpy as np

_SIDE, _PATCH, _CHANNELS = 112, 16, 4
_FLOAT, _INTS = 1, 7  # ONNX's numbers for types


def face_network() -> bytes:
    kernel = np.random.default_rng(0).normal(size=(_CHANNELS, 3, _PATCH, _PATCH))
    kernel -= kernel.mean(axis=(1, 2, 3), keepdims=True)
    layer = _node("Conv", ("data", "w"), "c", kernel_shape=_PATCH, strides=_PATCH)
    size = _CHANNELS * (_SIDE // _PATCH) ** 2
    graph = (
        _field(1, layer)
        + _field(1, _node("Flatten", ("c",), "fc1"))
        + _field(2, b"face")
        + _field(5, _tensor("w", kernel))
        + _field(11, _value("data", (1, 3, _SIDE, _SIDE)))
        + _field(12, _value("fc1", (1, size)))
    )
    version = _field(1, b"") + _field(2, 11)
    return _field(1, 7) + _field(7, graph) + _field(8, version)


def _node(kind: str, inputs: tuple[str, ...], output: str, **sides: int) -> bytes:
    """sides: attributes of two equal numbers."""
    attributes = (
        _field(1, name.encode()) + 2 * _field(8, side) + _field(20, _INTS)
        for name, side in sides.items()
    )
    return (
        b"".join(_field(1, name.encode()) for name in inputs)
        + _field(2, output.encode())
        + _field(4, kind.encode())
        + b"".join(_field(5, attribute) for attribute in attributes)
    )


def _tensor(name: str, values: np.ndarray) -> bytes:
    shape = b"".join(_field(1, size) for size in values.shape)
    content = values.astype("<f4").tobytes()
    return shape + _field(2, _FLOAT) + _field(8, name.encode()) + _field(9, content)


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    sizes = b"".join(_field(1, _field(1, size)) for size in shape)
    tensor = _field(1, _FLOAT) + _field(2, sizes)
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def _field(number: int, value: int | bytes) -> bytes:
    """A field of a protocol buffer."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    head, rest = number & 0x7F, number >> 7
    return bytes([head | 0x80]) + _varint(rest) if rest else bytes([head])
