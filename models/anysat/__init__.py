"""AnySat: one encoder for any subset of eleven sensors, at any resolution and patch size."""
