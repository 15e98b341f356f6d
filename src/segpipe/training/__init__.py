"""From batches to weights: objective, optimiser, loop and checkpoints."""
