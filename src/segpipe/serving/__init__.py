"""The code by which MLflow serves a registered model."""
