"""From labelled images in any layout to a training-ready store: readers, checks, splits, store, augmentation."""
