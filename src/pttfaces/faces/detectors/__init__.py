"""Face detectors by name, behind one interface: a picture in; scores, boxes and landmarks out."""

from pttfaces.errors import ParamsError
from pttfaces.faces.detectors.base import Detector, Face, Limits

__all__ = ["NAMES", "Detector", "Face", "Limits", "make_detector"]

NAMES = ("haar", "yunet", "retinaface")


def make_detector(
    name: str,
    weights: str | None = None,
    threshold: float = 0.0,
    min_size: int = 48,
    max_side: int = 640,
    batch_size: int = 8,
    weights_key: str = "detect.weights",
) -> Detector:
    """The detector called `name`: haar, yunet or retinaface.

    weights: a file of weights in place of the one looked up (haar needs none); weights_key: the
    parameter that names it, for error messages. threshold: least score, 0…1, besides the floor
    that every detector has. min_size: shortest side of a face's box, in pixels of the picture.
    max_side: larger pictures are searched shrunk to this size, in pixels. batch_size: pictures
    that a detector which runs on a GPU searches at once.

    Raises WeightsError (missing, not to be fetched, or other weights than expected) and
    ParamsError (no such detector).
    """
    limits = Limits(threshold, min_size, max_side)
    # Imported here: torch alone takes seconds, and only one of them is wanted.
    if name == "haar":
        from pttfaces.faces.detectors.haar import HaarDetector

        return HaarDetector(limits)
    if name == "yunet":
        from pttfaces.faces.detectors import yunet

        return yunet.YuNetDetector(limits, yunet.find_weights(weights, weights_key))
    if name == "retinaface":
        from pttfaces.faces.detectors import retinaface

        path = retinaface.find_weights(weights, weights_key)
        return retinaface.RetinaFaceDetector(limits, path, batch_size)
    raise ParamsError(f"there is no detector {name!r}; known are {', '.join(NAMES)}.")
