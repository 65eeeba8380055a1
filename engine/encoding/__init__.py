"""Stacks to embeddings: an encoder at work, and the loop over windows."""
