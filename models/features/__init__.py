"""Features instead of logits: a pyramid of maps, a detector on it, and embeddings."""
