"""A synthetic Sentinel-1/2 season with known truth, drawn from `resources/demo/recipe.json`."""
