"""Models that answer requests: the service `segpipe serve`, and the code by which MLflow serves a registered model."""
