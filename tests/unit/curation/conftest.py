"""Fixtures for the tests of the package curation."""

from faces_support import portraits

__all__ = ["portraits"]
