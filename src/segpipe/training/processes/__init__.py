"""The processes that share a training: how they start, meet and add up."""
