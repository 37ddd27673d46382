"""The looks of a person, which stay the same in all images of that person."""

from dataclasses import dataclass

import numpy as np

from pttfaces.demo.drawing.colours import Colour, dim, jitter, mix, palette, pick

_SKINS = palette("fadac6 f7d2ba f5ccb0 eabf9f dcae8a c2916d 94664a")
_SKIN_ODDS = (0.2, 0.24, 0.2, 0.15, 0.1, 0.06, 0.05)
_LIPSTICKS = palette("c9303c d9626a a83c4c e07a6c b8505a")
_HAIRS = palette("1c1719 271c18 3d281c 573822 774f2e c39a62 9a4a2c b9b4b2 c97f96 55759c 77619c")
_HAIR_ODDS = (0.24, 0.2, 0.18, 0.13, 0.09, 0.06, 0.03, 0.01, 0.03, 0.02, 0.01)
_IRISES = palette("452817 5c361a 7a4c24 5f6b3a 4a779e 6b7a84")
_IRIS_ODDS = (0.4, 0.27, 0.12, 0.07, 0.09, 0.05)
_FRAMES = palette("1b1b1d 5c3620 9c8050 33415c")


@dataclass(frozen=True)
class Person:
    """The looks of a person.

    Colours are RGB in 0..1, lengths and heights in units of the face's frame, the rest shares in
    0..1.
    """

    skin: Colour
    lips: Colour
    lip_paint: float
    blush: float
    age: float
    freckles: tuple[tuple[float, float], ...]
    stubble: float
    moles: tuple[tuple[float, float], ...]
    width: float
    cheek: float
    jaw: float
    chin_width: float
    chin: float
    neck: float
    eye_spacing: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    iris: Colour
    crease: float
    lashes: float
    brow_thickness: float
    brow_arch: float
    brow_height: float
    brow_tilt: float
    nose_width: float
    nose_length: float
    mouth_width: float
    mouth_height: float
    lip_fullness: float
    ears: float
    hair: str
    fringe: str
    hair_colour: Colour
    hair_volume: float
    hair_wave: float
    hair_part: float
    glasses: str
    glasses_colour: Colour
    earrings: str

    @property
    def hair_hangs(self) -> bool:
        """Whether the hair falls past the ears and hides them."""
        return self.hair in ("bob", "medium", "long")

    @property
    def hair_side(self) -> int:
        """The side that the hair is parted on: 1 is the image's right, -1 its left."""
        return 1 if self.hair_part > 0 else -1

    @staticmethod
    def random(rng: np.random.Generator) -> "Person":
        """Makes up a person."""

        def between(low: float, high: float) -> float:
            return float(rng.uniform(low, high))

        def chance(odds: float) -> bool:
            return bool(rng.random() < odds)

        def choice(**odds: float) -> str:
            return str(rng.choice(list(odds), p=np.array(list(odds.values())) / sum(odds.values())))

        soft = chance(0.66)
        rough = 0.0 if soft else 1.0
        skin = dim(pick(rng, _SKINS, _SKIN_ODDS), between(0.96, 1.02))
        age = float(rng.beta(1.3, 3.4))
        hair_colour = jitter(pick(rng, _HAIRS, _HAIR_ODDS), rng, 0.012)
        if age > 0.5 and chance(0.6):
            hair_colour = mix(hair_colour, (0.74, 0.73, 0.72), between(0.3, 0.8))
        if soft:
            hair = choice(long=32, bob=22, medium=20, ponytail=11, bun=8, short=7)
            fringe = choice(none=14, parted=20, bangs=26, curtain=20, side=20)
        else:
            hair = choice(short=45, crop=25, quiff=24, medium=6)
            fringe = choice(parted=25, bangs=25, curtain=25, side=25)
        paint = between(0.2, 0.85) if soft else between(0.0, 0.12)
        lips = mix(mix(skin, (0.74, 0.30, 0.30), 0.5), pick(rng, _LIPSTICKS), paint)
        spots = rng.normal((0, 0.24), (0.27, 0.09), (34, 2)) if chance(0.1) else np.zeros((0, 2))
        moles = rng.uniform((-0.55, 0.3), (0.55, 0.9), (int(rng.choice([0, 0, 0, 0, 1, 2])), 2))
        return Person(
            skin=skin,
            lips=lips,
            lip_paint=paint,
            blush=between(0.15, 0.6) * (1 - 0.5 * rough),
            age=age,
            freckles=tuple((x, y) for x, y in spots.tolist()),
            stubble=rough * between(0.08, 0.3) if chance(0.5) else 0.0,
            moles=tuple((x, y) for x, y in moles.tolist()),
            width=between(0.715, 0.80) + 0.02 * rough,
            cheek=between(0.95, 1.01),
            jaw=between(0.70, 0.80) + 0.05 * rough,
            chin_width=between(0.20, 0.28) + 0.05 * rough,
            chin=between(1.15, 1.25) + 0.04 * rough,
            neck=between(0.32, 0.36) + 0.08 * rough,
            eye_spacing=between(0.330, 0.350),
            eye_width=between(0.172, 0.202) - 0.008 * rough,
            eye_height=between(0.105, 0.138) * (1 - 0.14 * rough),
            eye_tilt=between(-0.015, 0.03),
            iris=jitter(pick(rng, _IRISES, _IRIS_ODDS), rng, 0.015),
            crease=between(0.0, 1.0),
            lashes=between(0.45, 1.0) * (1 - 0.8 * rough),
            brow_thickness=between(0.042, 0.062) * (1 + 0.35 * rough),
            brow_arch=between(0.015, 0.05) * (1 - 0.4 * rough),
            brow_height=between(0.25, 0.30) - 0.03 * rough,
            brow_tilt=between(-0.014, 0.018),
            nose_width=between(0.118, 0.15) + 0.014 * rough,
            nose_length=between(0.39, 0.44),
            mouth_width=between(0.25, 0.28),
            mouth_height=between(0.67, 0.71) + 0.01 * rough,
            lip_fullness=between(0.95, 1.4) * (1 - 0.2 * rough),
            ears=between(0.85, 1.1),
            hair=hair,
            fringe=fringe,
            hair_colour=hair_colour,
            hair_volume=between(0.10, 0.19),
            hair_wave=between(0.2, 1.0) if chance(0.35) else 0.0,
            hair_part=between(0.08, 0.3) * (1 if chance(0.5) else -1),
            glasses=choice(none=84, round=10, square=6),
            glasses_colour=pick(rng, _FRAMES),
            earrings=choice(none=60, stud=25, hoop=15) if soft else "none",
        )
