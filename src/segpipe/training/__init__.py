"""Trains weights on batches: the state of a training, its step, its loop, its objective and its checkpoints."""
