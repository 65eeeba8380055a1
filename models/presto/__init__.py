"""Presto (Tseng et al. 2023): a transformer on the months of one pixel."""
