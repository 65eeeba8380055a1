"""Which dates of a stack make one embedding: at most a year, the latest by default."""

from __future__ import annotations

from datetime import date, timedelta

from ..context import JobContext
from ..errors import UserError
from .stack import Stack

YEAR_DAYS = 366


def one_season(stack: Stack, start: str | None, end: str | None, context: JobContext) -> Stack:
    """The scenes from start to end (ISO days, inclusive); the last year where these are open.

    Encoders of series read one year; two harvests of one field would be mixed otherwise.

    Raises:
        UserError: a date that is not one, or no scene in between.
    """
    days = sorted(scene.date for scene in stack.scenes if scene.date)
    if not days:
        return stack
    for day in filter(None, (start, end)):
        _day(day)
    last = min(end, days[-1]) if end else days[-1]
    first = start or max(days[0], (_day(last) - timedelta(days=YEAR_DAYS - 1)).isoformat())
    chosen = stack.between(first, last)
    if not any(scene.date for scene in chosen.scenes):
        raise UserError(f"No scene lies between {first} and {last}; the stack has {days[0]} to "
                        f"{days[-1]}. Choose other dates.")
    left_out = len(stack.scenes) - len(chosen.scenes)
    if left_out:
        context.log(f"Season: {first}..{last}; {left_out} scenes outside it are left out")
    return chosen


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as failure:
        raise UserError(f"{text} is not a date. Write it as 2024-06-15.") from failure
