"""Logits from images, for every caller that predicts; masks and evaluations from logits."""
