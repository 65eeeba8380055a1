"""GDAL's cache of decoded blocks, kept within a job's memory budget.

GDAL keeps every block that it has read or written until its cache is full, by default a twentieth
of the machine's memory, whatever the job was allowed. The result of a job does not depend on it.
"""

from __future__ import annotations

import rasterio
from rasterio.env import get_gdal_config

_SHARE = 8  # of the budget: windows, strips and tables need the rest
_LEAST_MB = 16  # rows of blocks under a strip that is read in several windows
_MOST_MB = 128  # more keeps blocks that no window asks for again


def block_cache(memory_mb: float) -> rasterio.Env:
    """A with-block in which GDAL's cache holds no more than a share of a budget.

    It never grows: what the process was started with stays the limit.

    Args:
        memory_mb: of the whole job (MB, 10^6 bytes).
    """
    wanted = int(min(max(memory_mb / _SHARE, _LEAST_MB), _MOST_MB) * 1e6)
    return rasterio.Env(GDAL_CACHEMAX=min(wanted, int(get_gdal_config("GDAL_CACHEMAX"))))
