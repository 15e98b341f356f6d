"""Shared code of the metrics, the scores of all metrics, and intervals."""
