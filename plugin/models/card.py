"""A model's card as a page to read, select and copy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from ...processing_provider.translation import tr
from .model import HEAD, Model, sensor_title, size_text

#: Kinds of heads in words; a classifier's card names its model instead.
_KINDS = {
    "flood head": "flood detector", "forest head": "forest detector", "number head": "numbers",
}
#: Figures of a head's cross-validation that are shown.
_FIGURES = {"macro_f1": "macro F1", "overall": "overall accuracy", "r2": "R2", "rmse": "RMSE"}


def page(model: Model, speed: str = "") -> str:
    """The card in HTML, without colours of its own.

    Args:
        model: whose card.
        speed: the sentence about its speed on this computer, "" where it was not measured.
    """
    card = model.card
    title = "{} {}".format(model.name, card.get("version", "")).strip()
    parts = [f"<h3>{escape(title)}</h3>"]
    if model.problem:
        parts.append(f"<p><b>{escape(model.problem)}</b></p>")
    parts += _head(card) if model.kind == HEAD else _encoder(card)
    parts.append(_entry(tr("Speed here"), speed))
    parts.append(_entry(tr("File"), f"{model.path} ({size_text(model.size)})"))
    parts.append(_entry(tr("Removal"), model.immovable))
    if card.get("weights_sha256"):
        parts.append(_entry(tr("SHA-256 of the weights"), card["weights_sha256"]))
    return "".join(parts)


def _encoder(card: Mapping[str, Any]) -> list[str]:
    return [
        _entry(tr("Follows"), card.get("paper")),
        _entry(tr("Licence of the weights"), card.get("licence_weights")),
        _entry(tr("Licence of the code"), card.get("licence_code")),
        _entry(tr("Source"), card.get("source")),
        _list(tr("Takes"), (_sensor(s) for s in card.get("sensors") or ())),
        _entry(tr("Dates"), card.get("observations")),
        _entry(tr("Gives"), _given(card)),
        _entry(tr("Values"), card.get("normalisation")),
        _entry(tr("What may be missing"), card.get("missing_input")),
        _list(tr("Has seen in training"), (_data_set(s) for s in card.get("training_data") or ())),
        _list(tr("Measured"), card.get("results") or ()),
        _list(tr("Limits"), card.get("limits") or ()),
    ]


def _given(card: Mapping[str, Any]) -> str:
    if not card.get("dimensions"):
        return ""
    metres = float(card.get("ground_size_m") or 0)
    if card.get("unit") == "patch":
        text = tr("{} dimensions for each patch of {} x {} pixels ({:g} m)").format(
            card["dimensions"], card["patch"], card["patch"], metres * card["patch"]
        )
    else:
        text = tr("{} dimensions for each pixel of {:g} m").format(card["dimensions"], metres)
    if card.get("prefixes"):
        shorter = ", ".join(str(p) for p in card["prefixes"])
        text = tr("{}; the first {} also work by themselves").format(text, shorter)
    return text


def _sensor(sensor: Mapping[str, Any]) -> str:
    text = "{} ({}): {}".format(
        sensor_title(sensor["sensor"]), sensor.get("unit", ""), " ".join(sensor["bands"])
    )
    text += tr("; may be absent.") if sensor.get("optional") else tr("; needed.")
    return f"{text} {sensor['note']}" if sensor.get("note") else text


def _data_set(data: Mapping[str, Any]) -> str:
    return "{} ({}; {})".format(data["name"], data["licence"], data["source"])


def _head(card: Mapping[str, Any]) -> list[str]:
    validation, source = card.get("validation") or {}, card.get("source") or {}
    measured = [
        f"{name} {validation[key]:.3g}"
        for key, name in _FIGURES.items()
        if isinstance(validation.get(key), float)
    ]
    number = "{} ({})".format(card.get("field", ""), card.get("unit") or tr("no unit"))
    origin = source.get("origin") or {}
    kind = card.get("model") or _KINDS.get(str(card.get("kind")), "")
    return [
        _entry(tr("Kind"), tr(kind) if kind else ""),
        _entry(tr("Classes"), ", ".join(str(c["name"]) for c in card.get("legend") or ())),
        _entry(tr("Number"), number if card.get("field") else ""),
        _entry(tr("Reads embeddings of"), card.get("encoder")),
        _entry(tr("Measured on blocks of ground held back"), ", ".join(measured)),
        _entry(tr("Last date used"), card.get("cutoff")),
        _list(tr("Measured"), [] if measured else _results(card)),
        _list(tr("Measured elsewhere"), (_elsewhere(e) for e in validation.get("elsewhere") or ())),
        _entry(tr("Labels"), source.get("labels")),
        _entry(tr("Input"), source.get("input")),
        _entry(tr("Sensors in training"), ", ".join(
            sensor_title(sensor) for sensor in source.get("sensors") or ())),
        _entry(tr("Region"), source.get("region") or origin.get("region") or card.get("region")),
        _entry(tr("Labelled places"), _places(origin.get("places") or ())),
        _entry(tr("Season"), source.get("season") or card.get("season")),
        _list(tr("Seasons in training"), _seasons(origin)),
        _list(tr("Has seen in training"), (
            _training_set(s) for s in source.get("sets") or card.get("training") or ())),
        _list(tr("Limits"), _lines(source.get("limits") or card.get("limits"))),
    ]


def _results(card: Mapping[str, Any]) -> list[str]:
    """Figures of a detector: numbers, or one line for each set that it was measured on."""
    figures = card.get("results") or card.get("validation") or {}
    if card.get("legend") or not isinstance(figures, Mapping):
        return []
    return [
        "{}: {}".format(name, "; ".join(f"{what} {held}" for what, held in found.items())
                        if isinstance(found, Mapping) else found)
        for name, found in figures.items()
        if isinstance(found, (int, float, str, Mapping)) and not isinstance(found, bool)
    ]


def _elsewhere(measured: Mapping[str, Any]) -> str:
    return tr("{}: macro F1 {:.2f}, overall accuracy {:.0f} %").format(
        measured["where"], measured["macro_f1"], 100 * measured["overall"])


def _places(places: Sequence[Sequence[float]]) -> str:
    """How many labelled places there are, and the box of degrees around them."""
    if not places:
        return ""
    lon, lat = zip(*places)
    return tr("{} places, longitude {:g} to {:g}, latitude {:g} to {:g}").format(
        len(places), min(lon), max(lon), min(lat), max(lat))


def _seasons(origin: Mapping[str, Any]) -> list[str]:
    found = [tr("{} to {}").format(first, last) for first, last in origin.get("seasons") or ()]
    if origin.get("core"):
        found.append(tr("parts of these too, always with {} to {} (month and day)").format(
            *origin["core"]))
    return found


def _training_set(data: Mapping[str, Any]) -> str:
    """Name, size and licence of a set, whichever of them the card has."""
    size = data.get("samples", data.get("chips", ""))
    unit = tr("{} samples") if "samples" in data else tr("{} image pairs")
    known = [unit.format(size)] if size != "" else []
    known += [str(data[key]) for key in ("licence", "pixels", "masks") if data.get(key)]
    return "{} ({})".format(data.get("name", data.get("set", "")), "; ".join(known))


def _lines(text: Any) -> list[str]:
    """A text or a list of texts as a list."""
    return [text] if isinstance(text, str) else list(text or ())


def _entry(name: str, text: Any) -> str:
    return f"<p><b>{escape(name)}</b><br>{escape(str(text))}</p>" if text else ""


def _list(name: str, lines: Iterable[Any]) -> str:
    items = "".join(f"<li>{escape(str(line))}</li>" for line in lines)
    return f"<p><b>{escape(name)}</b></p><ul>{items}</ul>" if items else ""
