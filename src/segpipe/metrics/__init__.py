"""Segmentation scores, all from one confusion matrix."""
