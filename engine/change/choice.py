"""What fits the input: whether dates are seasons, comparable in time, and in physical units."""

from __future__ import annotations

from datetime import date

from ..context import JobContext
from ..encoding.encoder import Encoder
from ..errors import UserError
from .scenes import Side

_SEASON_DATES = 4  # from which on a side is a season, which embeddings describe best
_SEASON_DAYS = 45  # two dates farther apart in the year see other stages of growth


def are_seasons(before: Side, after: Side, encoder: str, context: JobContext) -> bool:
    """Whether both sides are seasons of the same bands that the encoder can read.

    Squares moved within a real patch (`benchmarks/change_planted.py`): with 17 and 6 dates a
    season embeddings find them with an F1 of 0.94 and 0.69, bands with 0.80 and 0.54; with one
    date 0.43 and 0.50.
    """
    if before.stack.sensors() != after.stack.sensors():
        return False
    if any("display values" in c.note for s in (before, after) for c in s.stack.scenes):
        return False
    if any(len({c.date for c in s.stack.scenes if c.date}) < _SEASON_DATES
           for s in (before, after)):
        return False
    opened = Encoder.open(encoder, context.device, context.threads)
    return not opened.missing(before.stack.sensors())


def check_units(method: str, preset: str, head: bool, sides: list[Side | None],
                context: JobContext) -> None:
    """Display values can be compared with each other, but mean nothing to what was trained.

    Raises:
        UserError: the bundled forest head on display values.
    """
    shown = [s.name for s in sides if s is not None and s.stack is not None
             and any("display values" in scene.note for scene in s.stack.scenes)]
    if not shown:
        return
    words = f"`{shown[0]}` holds display values (0..255), not reflectance"
    if preset == "deforestation" and not head:
        raise UserError(f"{words}, by which forest cannot be told. Use the original product, give "
                        "a head trained on your own labels, or choose the preset any.")
    if method == "embeddings":
        context.warn(f"{words}: embeddings of two dates cannot be compared. Choose the method "
                     "bands.")


def warn_seasons(before: list[str], after: list[str], context: JobContext) -> None:
    """Say where two short spans lie in other parts of the year: growth would be change."""
    if not before or not after:
        return
    spans = [[date.fromisoformat(d) for d in span] for span in (before, after)]
    if any((last - first).days > 2 * _SEASON_DAYS for first, last in spans):
        return
    middle = [(first + (last - first) / 2).timetuple().tm_yday for first, last in spans]
    apart = abs(middle[0] - middle[1])
    if min(apart, 365 - apart) > _SEASON_DAYS:
        context.warn(f"Before is of {spans[0][0]:%B}, After of {spans[1][0]:%B}: growth and "
                     "harvest between the two count as change. Choose dates of one season.")
