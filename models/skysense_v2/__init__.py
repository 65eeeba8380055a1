"""SkySense V2 (ICCV 2025, arXiv 2507.13812): a backbone for three sensors, built from its paper."""
