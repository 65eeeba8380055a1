"""TESSERA: a pixel's year of Sentinel-2 and Sentinel-1 becomes one vector.

Papers: Feng et al., "TESSERA: Temporal Embeddings of Surface Spectra for Earth Representation and
Analysis", arXiv 2506.20380, CVPR 2026 (v1); "TESSERA v2: Scaling Pixel-wise Earth Foundation
Models", arXiv 2607.03949 (v2). Neighbouring pixels are never seen.
"""
