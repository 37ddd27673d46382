"""Forgetting: from a name to everything that was made of it, wherever its bytes lie.

Used by `src/forget.py`. `lineage` knows tables, `storage` DVC and git, `leftovers` the folders
beside them, `history` MLflow; `report` joins them.
"""
