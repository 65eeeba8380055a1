"""Everything like this place: examples to a query, a query to a ranking over embeddings."""
