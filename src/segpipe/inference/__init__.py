"""From images to logits, the one way for all that predicts; and from logits to masks and evaluations."""
