"""The sections of a report on a ready-made head: how right it was where it was made, and where it
may be trusted here.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

from ..heads import accuracy
from ..heads.head import Head
from ..heads.origin import NEAR_KM, Reach
from . import charts
from .report import Section, number, table
from .scorecard import class_table, matrix_table

VISIT = "visit points drawn at random in each class (Sampling design, then Assess accuracy)"


def reach_section(reach: Reach, unlike_share: float) -> Section:
    """Where the map lies inside what the head has seen: ground, place, season."""
    def verdict(share: float) -> str:
        return "inside" if share < 0.005 else f"{100 * share:.0f} % outside"

    ground = ("Features farther from every label than held-back labels were from the others. Do "
              "not rely on the accuracy figures there, but add labels.")
    rows = (("Ground", f"{100 * unlike_share:.1f} % unlike", ground),
            ("Place", verdict(reach.far_share), escape(reach.place)),
            ("Season", "outside" if reach.off_season else "inside", escape(reach.season)))
    note = ("The layer Unlike the training data shows where: 1 for ground, 2 for place or season. "
            f"Within {NEAR_KM:g} km and a month of the year counts as inside, by convention.")
    return Section("Where it holds", table(("", "This map", "What that means"), [
        (name, f'<span class="whole"><b>{found}</b></span>', text) for name, found, text in rows])
        + f'<p class="soft" style="margin-top:10px">{note}</p>')


def head_section(head: Head) -> Section:
    """What a ready-made head is worth where it was trained; nothing of this place."""
    card, held = head.card, head.card.validation
    reached = held.get("macro_f1")
    figure = (f"reached macro F1 <b>{reached:.2f}</b>{_spread(held)} on held-back blocks where it "
              "was trained" if reached is not None
              else "says nothing of how right it was where it was trained")
    intro = (f"<p>The head {escape(head.path.name)} {figure}. How right it is here was not "
             f"measured: {VISIT}.</p>")
    if held.get("elsewhere"):
        intro += "<p>" + "; ".join(
            f"{escape(str(e['where']))}: macro F1 <b>{e['macro_f1']:.2f}</b>, overall accuracy "
            f"{100 * e['overall']:.0f} %" for e in held["elsewhere"]) + ".</p>"
    body = ""
    if held.get("matrix"):
        scores = accuracy.scores(np.array(held["matrix"]))
        groups = [int(s.get("groups", 0)) for s in card.samples]
        body = matrix_table(scores, card.legend) + class_table(scores, card.legend, "Parcels",
                                                               groups)
    elif held.get("classes"):
        names = dict(zip(card.legend.values, card.legend.names, strict=True))
        body = "<h3>Classes</h3>" + table(("Class", "Precision", "Recall", "F1"), [
            (escape(names.get(c["value"], str(c["value"]))),
             *(_figure(c.get(k)) for k in ("precision", "recall", "f1")))
            for c in held["classes"]], numeric=(1, 2, 3))
    return Section("Accuracy where it was trained", intro + body + _calibration(held))


def origin_section(head: Head) -> Section:
    """Training sets with licences, region and limits, where the card names them."""
    source = head.card.source
    sets = [(escape(str(s["name"])), escape(str(s.get("samples", ""))), escape(str(s["licence"])))
            for s in source.get("sets", ())]
    counts = table(("Class", "Parcels", "Samples"), [
        (escape(s["name"]), number(int(s.get("groups", 0))), number(int(s["samples"])))
        for s in head.card.samples], numeric=(1, 2)) if head.card.samples else ""
    body = table(("Set", "Labelled pixels", "Licence"), sets, numeric=(1,)) if sets else ""
    limits = "".join(f"<li>{escape(str(text))}</li>" for text in source.get("limits", ()))
    return Section("Training data", body + ("<h3>Classes</h3>" + counts if counts else "")
                   + (f"<h3>Limits</h3><ul>{limits}</ul>" if limits else ""))


def _calibration(held: Mapping[str, object]) -> str:
    before, after = held.get("ece_before"), held.get("ece_after")
    if before is None or after is None:
        return ""
    words = (f"<p>Expected calibration error on held-back blocks: {100 * float(before):.1f} points "
             f"before, {100 * float(after):.1f} after calibration.</p>")
    if not held.get("reliability"):
        return "<h3>Probabilities</h3>" + words
    bins = [tuple(np.array([np.nan if v is None else v for v in row], float) for row in each)
            for each in held["reliability"]]
    alt = f"Accuracy against stated probability; {words[3:-4]}"
    return ('<h3>Probabilities</h3><div class="pair"><figure>'
            f"{charts.reliability(*bins, alt)}</figure>"
            f'<div style="flex:1 1 300px">{words}<p>A confidence of 80 % should be right 8 times '
            "in 10: the dashed line. Grey bars: samples.</p></div></div>")


def _spread(held: Mapping[str, object]) -> str:
    spread = held.get("macro_f1_spread")
    return f" ± {spread:.2f}" if spread is not None else ""


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"
