"""Trains the diffusion model: the loop, its data, EMA, validation, checkpoints and outputs."""
