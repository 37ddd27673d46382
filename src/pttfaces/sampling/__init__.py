"""Samplers, and the generation of many images that survives a kill."""
