"""From a store to batches: windows, augmentations and the order of the samples."""
