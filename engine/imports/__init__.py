"""Other people's embeddings: one module a format, each giving windows of vectors on a grid."""
