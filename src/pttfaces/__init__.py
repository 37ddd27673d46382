"""PTT Faces: from a year of a forum board to a scored face generator.

Rooms: board, images, faces, diffusion, scores, demo. Ground floor: params, files, errors, door,
progress, pictures. Rooms import the ground floor only, never each other or the tracking.
"""

__version__ = "0.1.0"
