"""segpipe: from labelled images to a gated, explainable, rebuildable segmentation champion."""
