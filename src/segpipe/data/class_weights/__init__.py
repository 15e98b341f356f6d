"""How much each class counts in the loss."""
