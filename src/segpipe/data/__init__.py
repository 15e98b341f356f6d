"""From labelled images to training batches: each room uses the result of the room before it."""
