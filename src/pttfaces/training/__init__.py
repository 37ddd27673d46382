"""Trains the diffusion model: the loop, its data, EMA, validation and checkpoints."""
