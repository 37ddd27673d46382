"""Provides face detectors behind one interface: an image in; scores, boxes and landmarks out."""

from pttfaces import config
from pttfaces.faces.detectors.base import Detector, Face

__all__ = ["Detector", "Face", "make_detector"]


def make_detector(options: config.Detect, weights_key: str = "detect.weights") -> Detector:
    """The detector that `options` name.

    weights_key: the parameter that names the weights file, for error messages.

    WeightsError: the weights are missing, cannot be fetched, or are not the expected ones.
    """
    # Imported here: torch alone takes seconds, and only one detector is needed.
    match options.detector:
        case "haar":
            from pttfaces.faces.detectors.haar import HaarDetector

            return HaarDetector(options)
        case "yunet":
            from pttfaces.faces.detectors import yunet

            return yunet.YuNetDetector(options, yunet.find_weights(options.weights, weights_key))
        case "retinaface":
            from pttfaces.faces.detectors import retinaface

            path = retinaface.find_weights(options.weights, weights_key)
            return retinaface.RetinaFaceDetector(options, path)
