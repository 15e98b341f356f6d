"""Training, evaluation and prediction as plain loops. Knows neither MLflow nor DVC nor Prefect."""
