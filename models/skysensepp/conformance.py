"""Golden cases of SkySense++: one runner serves both, since a case says what it holds."""

from ..skysense.conformance import full_size, run_case

__all__ = ["full_size", "run_case"]
