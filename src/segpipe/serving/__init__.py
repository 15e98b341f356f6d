"""A registered model as MLflow serves it."""
