"""What attention blocks share."""
