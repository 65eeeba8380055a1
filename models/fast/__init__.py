"""The bundled default encoder: one pixel's year on a fixed time grid through a small network."""
