"""SatDINO: a vision transformer for aerial and satellite images in red, green and blue.

Paper: Straka and Gruber, "SatDINO: A Deep Dive into Self-Supervised Pretraining for Remote
Sensing", arXiv 2508.21402. It is DINO (Caron et al. 2021) with local views of evenly spread scales
and a register that learns the ground size of a pixel.
"""
