"""The versions of a model: how they are compared, which one is the champion, and why."""

import segpipe.tracking  # noqa: F401  (MLflow's settings, before it is imported)
