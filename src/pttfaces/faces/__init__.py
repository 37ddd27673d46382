"""Detects faces, aligns and crops them, and measures the quality of each crop."""
