"""A registered model measured again, run by code that is known, in a process of its own."""
