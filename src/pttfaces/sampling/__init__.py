"""Samples images from a model, and resumes the generation of many after a kill."""
