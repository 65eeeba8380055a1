"""What file and folder names tell: product, date, time, band, tile, orbit, processing baseline.

A table of naming conventions is tried on the file's name, then on its folders; where none fits,
dates are found in many ways of writing them. Nothing is opened here.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, replace
from pathlib import PurePath


@dataclass(frozen=True)
class Named:
    """What a name says; empty where it says nothing.

    Attributes:
        product: key of `earthprint.engine.stacks.sensors.PRODUCTS`.
        date: ISO day; the middle where the name holds a span.
        span: (first, last) ISO days where the name holds a span.
        time: UTC time of day, HHMMSS.
        band: the part that names the band or bands, such as "B04" or "VV-VH".
        tile: Sentinel-2 tile, Landsat path and row.
        orbit: "ascending", "descending" or "".
        track: relative orbit number, 0 where unknown.
        baseline: Sentinel-2 processing baseline as a number (N0511 -> 511), 0 where unknown.
        vague: the date is a month or a year only.
    """

    product: str = ""
    date: str = ""
    span: tuple[str, str] | None = None
    time: str = ""
    band: str = ""
    tile: str = ""
    orbit: str = ""
    track: int = 0
    baseline: int = 0
    vague: bool = False


_D8 = r"(?P<date>(?:19|20)\d{6})"
_T6 = r"(?P<time>\d{6})"
_BAND = r"(?:[_.](?P<band>[A-Za-z][\w-]*))?"
_CONVENTIONS = tuple((product, re.compile(pattern, re.IGNORECASE)) for product, pattern in (
    # ESA SAFE folder; BigEarthNet and others cut the tail off
    ("sentinel-2", rf"S2[A-D]_MSIL(?:1C|2A)_{_D8}T(?P<time>\d{{5,6}})"
                   r"(?:_N(?P<baseline>\d{4})_R(?P<track>\d{3})_T(?P<tile>\d\d[A-Z]{3}))?"
                   r"(?:_\d{8}T\d{6})?(?P<rest>.*)"),
    # JP2 of a SAFE, and cloud-optimised copies with the same names
    ("sentinel-2", rf"(?:^|_)T(?P<tile>\d\d[A-Z]{{3}})_{_D8}T{_T6}{_BAND}"),
    # Earth Search (Element 84)
    ("sentinel-2", rf"S2[A-D]_(?:T?)(?P<tile>\d{{1,2}}[A-Z]{{3}})_{_D8}(?:T{_T6})?_\d+_L(?:1C|2A)"
                   rf"{_BAND}"),
    ("theia", rf"SENTINEL2[A-DX]_{_D8}-{_T6}-\d+_L(?:1C|2A|3A)_T(?P<tile>\d\d[A-Z]{{3}})_[A-Z]"
              r"(?:_V\d+-\d+)?(?:_(?:FRE|SRE|FRC|SRC))?" + _BAND),
    ("sentinel-1", rf"S1[A-D]_(?:IW|EW|SM|S\d|WV)_[A-Z]{{3}}[FHM_]?_\dS[SD][HV]_{_D8}T{_T6}"
                   r"(?:_\d{8}T\d{6})?(?:_(?P<absolute>\d{6}))?(?P<rest>.*)"),
    ("sentinel-1", rf"s1[a-d]-(?:iw\d?|ew\d?|s\d|wv)-[a-z]{{3}}-(?P<band>[vh]{{2}})-{_D8}t{_T6}"
                   r"-\d{8}t\d{6}-(?P<absolute>\d{6})"),
    ("sentinel-1", rf"OPERA_L2_RTC-S1_T(?P<track>\d{{3}})-\d+-[A-Z]+\d_{_D8}T{_T6}Z"
                   r"(?:_\d{8}T\d{6}Z)?(?P<rest>.*)"),
    ("landsat", rf"L(?P<instrument>[COTEM])0(?P<number>\d)_(?P<level>L[12][A-Z]{{2}})_"
                rf"(?P<tile>\d{{6}})_{_D8}_\d{{8}}_(?P<collection>0\d)_(?:T1|T2|RT|A1)"
                r"(?:_(?P<band>\w+))?"),
    ("landsat", r"L(?P<instrument>[COTEM])0?(?P<number>\d)(?P<tile>\d{6})(?P<doy>(?:19|20)\d{5})"
                r"(?:[A-Z]{3}\d\d)?(?:_(?P<band>\w+))?"),
    ("hls", rf"HLS\.(?P<instrument>[SL])30\.T(?P<tile>\d\d[A-Z]{{3}})\.(?P<doy>20\d{{5}})T{_T6}"
            r"(?:\.v\d+\.\d+)?(?:\.(?P<band>\w+))?"),
    ("modis", r"M[OYC]D\d\d\w*[._]A?(?P<doy>(?:19|20)\d{5})(?:[._](?P<rest>.*))?"),
    ("cbers", r"CBERS[-_ ]?0?4A?[-_](?:AWFI|MUX|WFI|WPM|PAN\w*)(?P<rest>.*)"),
    ("cbers", r"CB4A?[-_](?:(?:64|20M?|WFI|MUX)[-_])?16D(?P<rest>.*)"),
    ("planet", rf"{_D8}_{_T6}_.*3B_(?:Analytic|Visual|(?P<band>udm))\w*"),
    ("aerial", rf"m_\d{{7}}_[ns][ew]_\d\d_\w+?_{_D8}"),
))
_HINTS = tuple((product, re.compile(rf"(?:^|[^a-z0-9])(?:{words})(?:[^a-z0-9]|$)", re.IGNORECASE))
               for product, words in (
    ("sentinel-2", r"s2[abcd]?|sentinel[-_ ]?2\w?|s2hand|msi"),
    ("sentinel-1", r"s1[abcd]?|sentinel[-_ ]?1\w?|s1hand|sar|grd|rtc"),
    ("landsat-oli", r"l[89]|lc0?[89]|landsat[-_ ]?[89]|oli"),
    ("landsat-tm", r"l[457]|l[te]0?[457]|landsat[-_ ]?[457]|tm|etm"),
    ("landsat-oli", r"landsat"),
    ("modis", r"modis|m[oy]d\d\d\w{0,2}"),
    ("cbers", r"cbers\d?a?|awfi"),
    ("planet", r"planet(?:scope)?|psscene"),
    ("aerial", r"naip|aerial|ortho(?:photo)?|dop\d*|drone|uav"),
))

_YEAR = r"(?:19[7-9]\d|20[0-4]\d)"
_ISO = rf"{_YEAR}[-_.](?:0[1-9]|1[0-2])[-_.](?:0[1-9]|[12]\d|3[01])"
_COMPACT = rf"{_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_SPANS = tuple(re.compile(rf"(?<!\d)(?P<a>{day})(?:[-_/]|__|_to_)(?P<b>{day})(?!\d)")
               for day in (_ISO, _COMPACT))
_DAY = tuple(re.compile(p) for p in (
    rf"(?<!\d)(?P<day>{_COMPACT})[Tt](?P<time>\d{{6}})",
    rf"(?<!\d)(?P<day>{_ISO})(?:[Tt ](?P<time>\d\d[:-]?\d\d[:-]?\d\d))?(?!\d)",
    rf"(?<!\d)(?P<day>{_COMPACT})(?:_(?P<time>[0-2]\d[0-5]\d[0-5]\d)(?!\d))?(?!\d)",
    rf"(?<!\d)(?P<day>{_YEAR}-?(?:00[1-9]|0[1-9]\d|[12]\d\d|3[0-5]\d|36[0-6]))(?!\d)",
))
_MONTH = re.compile(rf"(?<!\d)(?P<year>{_YEAR})[-_](?P<month>0[1-9]|1[0-2])(?!\d)")
_ONLY_YEAR = re.compile(rf"(?<!\d)(?P<year>{_YEAR})(?!\d)")

_ORBITS = tuple((orbit, re.compile(rf"(?:^|[^a-z])(?:{words})(?:[^a-z]|$)", re.IGNORECASE))
                for orbit, words in (
    ("ascending", r"asc(?:ending)?|A\d{3}"), ("descending", r"desc?(?:ending)?|D\d{3}")))
_TRACK = re.compile(r"_(?:(?:ASC|DESC?)_|[AD])(?P<track>\d{3})(?=_|$)", re.IGNORECASE)


def day_of(text: str) -> str:
    """ISO day of `20240615`, `2024-06-15`, `2024_06_15`, `2024167` or `2024-167`; else empty."""
    digits = re.sub(r"\D", "", text)
    try:
        if len(digits) == 7:
            year, day = int(digits[:4]), int(digits[4:])
            found = dt.date(year, 1, 1) + dt.timedelta(day - 1)
            return found.isoformat() if found.year == year else ""
        return dt.date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])).isoformat()
    except ValueError:
        return ""


def middle(first: str, last: str) -> str:
    """The day in the middle of two ISO days."""
    a, b = dt.date.fromisoformat(first), dt.date.fromisoformat(last)
    return (a + (b - a) / 2).isoformat()


def find_date(text: str) -> Named:
    """The date in any text, with its time of day or span; an empty `Named` where there is none.

    A span gives its middle day; a month its 15th and a year its 1 July, both marked `vague`.
    """
    for pattern in _SPANS:
        match = pattern.search(text)
        if match:
            first, last = day_of(match["a"]), day_of(match["b"])
            if first and last and first < last:
                return Named(date=middle(first, last), span=(first, last))
    for pattern in _DAY:
        for match in pattern.finditer(text):
            day = day_of(match["day"])
            if day:
                time = match.groupdict().get("time") or ""
                return Named(date=day, time=re.sub(r"\D", "", time))
    match = _MONTH.search(text)
    if match:
        return Named(date=f"{match['year']}-{match['month']}-15", vague=True)
    match = _ONLY_YEAR.search(text)
    if match and int(match["year"]) <= dt.date.today().year + 1:
        return Named(date=f"{match['year']}-07-01", vague=True)
    return Named()


def strip_date(text: str) -> str:
    """The text without its first date and time, for the band that remains."""
    for pattern in _DAY:
        match = pattern.search(text)
        if match and day_of(match["day"]):
            return (text[:match.start()] + " " + text[match.end():]).strip(" _-.")
    return text


def _product(product: str, found: dict[str, str]) -> str:
    """The key of the product table, from the convention and what its name holds."""
    if product == "hls":
        return "hls-s30" if found["instrument"].upper() == "S" else "hls-l30"
    if product == "landsat":
        kind = "landsat-oli" if int(found["number"]) >= 8 else "landsat-tm"
        level2 = found.get("level", "").upper().startswith("L2")
        return f"{kind}-c2" if level2 and found.get("collection") == "02" else kind
    return product


def _track(name: str, found: dict[str, str]) -> int:
    """Relative orbit: as written, or from Sentinel-1's absolute orbit number."""
    written = _TRACK.search(name)
    if found.get("track") or written:
        return int(found.get("track") or written["track"])
    if found.get("absolute"):
        shift = {"a": 73, "b": 27, "c": 172}.get(name[2].lower(), None)
        return 0 if shift is None else (int(found["absolute"]) - shift) % 175 + 1
    return 0


def _convention(text: str) -> Named | None:
    """What a name in a known convention says."""
    for product, pattern in _CONVENTIONS:
        match = pattern.search(text)
        if not match:
            continue
        found = {k: v for k, v in match.groupdict().items() if v}
        rest = Named()
        if "date" not in found and "doy" not in found:
            rest = find_date(found.get("rest", ""))
        date = day_of(found.get("date") or found.get("doy", "")) or rest.date
        band = found.get("band") or strip_date(found.get("rest", "")).strip("_.- ")
        return Named(
            product=_product(product, found), date=date, span=rest.span,
            time=found.get("time", ""), band=band, tile=found.get("tile", "").upper(),
            track=_track(match.group(0), found), baseline=int(found.get("baseline", 0)),
        )
    return None


def _hint(text: str) -> str:
    """The product that a word in the text hints at."""
    return next((product for product, pattern in _HINTS if pattern.search(text)), "")


def _one(text: str) -> Named:
    """What one file or folder name says."""
    known = _convention(text)
    if known is None:
        known = replace(find_date(text), product=_hint(text))
    if known.product not in ("", "sentinel-1"):
        return known
    orbit = next((name for name, pattern in _ORBITS if pattern.search(text)), "")
    return replace(known, orbit=orbit, track=known.track or _track(text, {}))


def parse(path: str | PurePath, levels: int = 5) -> Named:
    """What a path says: its file name first, then its folders up to `levels` above.

    Folders in a known convention, such as a SAFE, count at any of these levels; hints and dates in
    other names only in the two nearest, because those further up belong to somebody's project.
    """
    path = PurePath(path)
    stem = path.name if path.suffix.upper() == ".SAFE" else path.stem
    result = _one(stem)
    if not result.band and not _convention(stem):
        result = replace(result, band=strip_date(stem))
    for level, folder in enumerate([p.name for p in path.parents][:levels]):
        if result.product and result.date and result.baseline:
            break
        safe = _convention(folder) is not None
        if level >= 2 and not safe:
            continue
        above = _one(folder)
        result = replace(
            result,
            product=result.product or above.product,
            date=result.date or (above.date if safe or not above.vague else ""),
            span=result.span or (above.span if not result.date else None),
            time=result.time or (above.time if not result.date else ""),
            tile=result.tile or (above.tile if safe else ""),
            orbit=result.orbit or above.orbit,
            track=result.track or above.track,
            baseline=result.baseline or above.baseline,
        )
    return result
