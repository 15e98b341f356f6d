"""What metrics share, and what is made of all of them."""
