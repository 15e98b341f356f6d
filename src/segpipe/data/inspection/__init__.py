"""Checks of samples: faults of an image and its mask, names that cannot be used, and images that look alike."""
