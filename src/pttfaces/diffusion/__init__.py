"""The diffusion room: a denoising diffusion model of small pictures, its training and its samplers.

Knows nothing of boards, faces, scores, experiment tracking or params.yaml: folders of PNG files and
small data classes of settings go in, model folders and PNG files come out.
"""
