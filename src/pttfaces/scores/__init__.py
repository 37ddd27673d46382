"""Scores of generated pictures: features, distances between sets, faces found, copies of training.

Knows pictures in folders and arrays of features; nothing of how the pictures were made.
"""
