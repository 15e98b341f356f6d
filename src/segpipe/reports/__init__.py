"""Pages and pictures for people: what is in the data, and what the network makes of it."""
