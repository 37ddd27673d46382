"""Chooses crops for the data set, finds duplicates, splits by article and exports the images."""
