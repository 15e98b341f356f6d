"""Decides when and where the stages run: Prefect's flows, their deployments, and the services. No ML code."""

import sys
from importlib.util import find_spec

NEEDED = ("prefect", "coolname", "honcho")

# Before the imports of the modules here, each of which would end with a traceback.
if missing := [package for package in NEEDED if find_spec(package) is None]:
    sys.exit(f"pipelines: {', '.join(missing)} not installed; run `pip install 'segpipe[orchestration]'`")
