"""Fixtures for the tests of the package faces."""

from faces_support import portraits, workspace

__all__ = ["portraits", "workspace"]
