"""Draws made-up people: portraits, groups and faceless scenes, from a given random generator.

shapes, colours → canvas → person, face_context → head, features, hair, clothes → compose, with
backdrops and scenes beside the people.
"""

from pttfaces.demo.drawing.compose import Drawing, blurred, group, portrait, scene
from pttfaces.demo.drawing.person import Person

__all__ = ["Drawing", "Person", "blurred", "group", "portrait", "scene"]
