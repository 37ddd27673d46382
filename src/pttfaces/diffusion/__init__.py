"""Holds what training and sampling share: U-Net, noise schedule, random streams and devices."""
