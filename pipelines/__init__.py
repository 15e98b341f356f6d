"""Decides when and where the stages run: Prefect's flows, their deployments, and the services. No ML code."""
