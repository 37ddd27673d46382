"""Scores generated images: FID, KID, precision and recall, memorization, face rate."""
