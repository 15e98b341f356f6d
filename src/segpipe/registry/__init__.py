"""Versions of a model: what they are compared by, which one is the champion, and why."""

import segpipe.tracking  # noqa: F401  (MLflow's settings, before it is imported)
