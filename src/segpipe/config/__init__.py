"""`params.yaml` as strict, frozen models: one file a section, put together in `params.py`."""
