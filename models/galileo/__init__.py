"""Galileo (Tseng et al. 2025): a ViT over any bag of sensors and dates, of pixels or patches."""
