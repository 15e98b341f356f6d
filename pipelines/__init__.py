"""When and where the stages run: Prefect's flows, their deployments, and the services around them. No ML code."""
