"""SkySense (CVPR 2024) and SkySense++ (Nature Machine Intelligence 2025): factorised encoders."""
