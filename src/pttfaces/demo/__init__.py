"""The embedded demo board: drawn faces, the articles that link them, and the site."""

DEMO_VERSION = 1
"""Raise it after a change of what the demo shows: its pages and images are cached under it."""
