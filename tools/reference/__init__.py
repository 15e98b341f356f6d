"""Pages of the documentation's reference that are made from the code: keys of `params.yaml`, commands."""
