"""Labelling: places are proposed, the analyst says what they are, the map is made again."""
