"""Fixtures that every tier of tests shares."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material, or a skip that says where it was looked for."""
    folder = Path(os.environ.get("EARTHPRINT_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"reference material not found at {folder} (set EARTHPRINT_SHARED)")
    return folder
