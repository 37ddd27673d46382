"""Draws made-up people: portraits, groups, faceless scenes; every number from a given Generator.

shapes, colours → canvas → person, sitting → head, features, strands, hair, clothes → compose, with
backdrops and scenes beside the people. Knows nothing of boards, files or detectors.
"""

from pttfaces.demo.drawing.compose import Drawing, blurred, group, portrait, scene
from pttfaces.demo.drawing.person import Person

__all__ = ["Drawing", "Person", "blurred", "group", "portrait", "scene"]
