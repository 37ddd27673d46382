"""What a face is painted with: canvas, person, pose, expression, light and the face's own frame.

The frame: x to the image's right, y down, the middle between the eyes at (0, 0), the chin near
y = 1.2. Lengths are in units; a pose projects them to pixels.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pttfaces.demo.drawing.canvas import Canvas
from pttfaces.demo.drawing.colours import Colour
from pttfaces.demo.drawing.person import Person
from pttfaces.demo.drawing.shapes import Array, Line, f32


@dataclass(frozen=True)
class Light:
    """direction: unit vector from the face to the light (x right, y down, z to the viewer).

    fill: share (0..1) of the light that reaches what is turned away.
    """

    direction: tuple[float, float, float]
    colour: Colour
    fill: float

    @staticmethod
    def random(rng: np.random.Generator) -> "Light":
        toward = np.array([rng.uniform(-0.75, 0.75), rng.uniform(-0.75, -0.25), 0.95])
        x, y, z = (toward / np.linalg.norm(toward)).tolist()
        warm = float(rng.uniform(-1, 1))
        colour = (1.01 + 0.03 * warm, 1.0 + 0.005 * warm, 0.995 - 0.04 * warm)
        return Light((x, y, z), colour, float(rng.uniform(0.4, 0.62)))


@dataclass(frozen=True)
class Pose:
    """origin: the middle between the eyes of a frontal face, in pixels; unit: in pixels; roll, yaw,
    pitch: in radians."""

    origin: tuple[float, float]
    unit: float
    roll: float
    yaw: float
    pitch: float

    def project(self, points: npt.ArrayLike, depth: float | Array = 0.0) -> Array:
        """Points (..., 2) of the face's frame, `depth` units towards the viewer → pixels."""
        p = f32(points)
        x = p[..., 0] * np.cos(self.yaw) + depth * np.sin(self.yaw)
        y = p[..., 1] * np.cos(self.pitch) - depth * np.sin(self.pitch)
        c, s = np.cos(self.roll), np.sin(self.roll)
        px = self.origin[0] + self.unit * (c * x - s * y)
        py = self.origin[1] + self.unit * (s * x + c * y)
        return np.stack([px, py], -1).astype(np.float32)


@dataclass(frozen=True)
class Expression:
    """An expression: smile and open mouth in 0..1, the rest in units or factors around 1."""

    smile: float
    open: float
    lids: float
    gaze: tuple[float, float]
    brows: float

    @staticmethod
    def random(rng: np.random.Generator) -> "Expression":
        smile = float(rng.beta(2.0, 1.4))
        opened = float(rng.uniform(0.4, 1.0)) if rng.random() < 0.4 else 0.0
        return Expression(
            smile=smile,
            open=opened * (0.35 + 0.65 * smile),
            lids=float(rng.uniform(0.9, 1.08)) - 0.14 * smile,
            gaze=(float(rng.normal(0, 0.014)), float(rng.normal(0, 0.007))),
            brows=float(rng.normal(0.005, 0.014)),
        )


@dataclass(frozen=True)
class FaceContext:
    """What a person is painted with; `paint` and `shade` work in units of the face's frame.

    pose: of the head; body: the pose of neck and shoulders, which turn less.
    """

    canvas: Canvas
    person: Person
    pose: Pose
    body: Pose
    expression: Expression
    light: Light
    rng: np.random.Generator

    @staticmethod
    def random(
        canvas: Canvas,
        person: Person,
        light: Light,
        rng: np.random.Generator,
        origin: tuple[float, float],
        unit: float,
    ) -> "FaceContext":
        roll, yaw, pitch = np.clip(
            rng.normal(0, (0.08, 0.10, 0.05)), (-0.2, -0.2, -0.11), (0.2, 0.2, 0.11)
        ).tolist()
        pose = Pose(origin, unit, roll, yaw, pitch)
        body = replace(pose, roll=0.25 * roll, yaw=0.0, pitch=0.0)
        x, y = (pose.project((0.0, 0.95)) - body.project((0.0, 0.95))).tolist()
        body = replace(body, origin=(origin[0] + x, origin[1] + y))
        return FaceContext(canvas, person, pose, body, Expression.random(rng), light, rng)

    def on_face(self, points: npt.ArrayLike, out: float = 0.0) -> Array:
        """Points (..., 2) on the face, or `out` units in front of it → pixels."""
        p = f32(points)
        return self.pose.project(p, dome(p[..., 0], p[..., 1], self.person.width) + out)

    def paint(
        self,
        shape: Line,
        colour: Colour,
        alpha: float = 1.0,
        soft: float = 0.0,
        out: float = 0.0,
        within: Array | None = None,
    ) -> None:
        """Lays a colour over a polygon on the face; its edge is blurred by `soft` units."""
        self.canvas.paint(self.on_face(shape, out), colour, alpha, self._edge(soft), within)

    def shade(
        self,
        shape: Line,
        factor: Colour,
        alpha: float = 1.0,
        soft: float = 0.0,
        out: float = 0.0,
        within: Array | None = None,
    ) -> None:
        """Multiplies what is on the face, under a polygon, by a colour."""
        self.canvas.shade(self.on_face(shape, out), factor, alpha, self._edge(soft), within)

    def _edge(self, soft: float) -> float:
        """Pixels by which an edge is blurred: at least half of one."""
        return max(soft * self.pose.unit, 0.5)


def dome(x: Array, y: Array, width: float) -> Array:
    """How far the head stands out towards the viewer: half an egg."""
    radius = (x / (width * 1.04)) ** 2 + ((y - 0.12) / 1.28) ** 2
    return (0.82 * np.sqrt(np.clip(1 - radius, 0, 1))).astype(np.float32)
