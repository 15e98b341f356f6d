"""What is looked for in samples: faults of an image and its mask, names that cannot be used, and looks."""
