"""Traces a crop to its source, and deletes what was made of it from every store."""
