"""TiMo: a hierarchical transformer for short, aligned series of satellite images.

Paper: Qin et al., "TiMo: Spatiotemporal Foundation Model for Satellite Image Time Series",
arXiv 2505.08723. No weights have been published; the names of tensors are those of the authors'
training code.
"""
