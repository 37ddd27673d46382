"""Scores generated images: FID, KID, precision and recall, memorization, face rate."""

DISTANCES = ("fid", "fid_torchvision", "inception_distance", "random_feature_distance")
"""The possible names of the score; a result has one of them."""

COMPARABLE = ("trained_digest", "reference_digest", "features", "network", "dims", "generated")
"""Figures that have to be equal in two results before their distances compare."""
