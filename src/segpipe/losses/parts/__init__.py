"""What losses share; no loss by itself, so the registry passes it by."""
