"""Presto (Tseng et al. 2023): a transformer on one pixel's months. Here as a teacher of `fast`."""
