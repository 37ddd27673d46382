"""PTT Faces: from a year of a forum board to a scored face generator.

The packages follow the pipeline: board → download → faces → curation → training → sampling →
evaluation; `diffusion` is what the last three share.
"""

__version__ = "0.3.0"
