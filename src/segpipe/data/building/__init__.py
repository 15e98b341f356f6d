"""From a source to a store: decode, check, count and write each sample once, in workers, and reuse the last store."""
