"""How right a map is, from places drawn at random: the sample, its points, the estimates."""
