"""Measures a registered model again, in a process of its own, with trusted code."""
