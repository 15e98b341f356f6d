"""What the zoo's models share: encoders, blocks, and what brings a library's model to our contract."""
