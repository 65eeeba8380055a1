"""The error matrix of a report: rows are the map, columns the truth, shaded by column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from .report import chip


def error_matrix(names: Sequence[str], colors: Sequence[str], values: np.ndarray,
                 words: Callable[[float], str]) -> str:
    """An HTML table with sums at both ends.

    Args:
        names, colors: (c,) classes.
        values: (c, c) rows are the map, columns the truth.
        words: of a value.
    """
    share = values / np.maximum(values.sum(0), 1e-12)
    head = "".join(f"<th><span>{escape(n)}</span></th>" for n in names)

    def cell(i: int, j: int) -> str:
        if values[i, j] <= 0:
            return '<td class="zero">0</td>'
        tone = "--right" if i == j else "--wrong"
        return (f'<td style="background:rgba(var({tone}), {0.12 + 0.6 * share[i, j]:.2f})">'
                f"{words(values[i, j])}</td>")

    rows = "".join(
        f"<tr><th scope='row'>{chip(colors[i])}{escape(names[i])}</th>"
        + "".join(cell(i, j) for j in range(len(values)))
        + f'<td class="sum">{words(values[i].sum())}</td></tr>' for i in range(len(values)))
    sums = "".join(f'<td class="sum">{words(v)}</td>' for v in values.sum(0))
    return (f'<div class="scroll"><table class="matrix"><thead><tr><th></th>{head}<th><span '
            f'class="soft">all</span></th></tr></thead><tbody>{rows}<tr><th scope="row" '
            f'class="soft">all</th>{sums}<td class="sum">{words(values.sum())}</td></tr></tbody>'
            "</table></div>")
