"""What comes before the first step: the weights that a training begins with, its rehearsal, and what is measured."""
