"""QGIS styles (`.qml`) of our rasters: classes by colour and name, numbers by a ramp."""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from .legend import Legend

#: Colours at 0, 25, 50, 75 and 100 % of a range: Inferno (van der Walt and Smith 2015) and
#: Cividis (Nuñez et al. 2018).
INFERNO = ("#000004", "#57106e", "#bc3754", "#f98e09", "#fcffa4")
CIVIDIS = ("#00224e", "#434e6c", "#7d7c78", "#bcae6c", "#fee838")


@dataclass(frozen=True)
class Ramp:
    """Colours of band 1 from `low` to `high`; values outside take the end's colour.

    Attributes:
        colors: five, evenly over the range.
        low, high: ends of the range.
        label: format of a number in the legend.
        opacity: of the layer, 0..1.
    """

    colors: tuple[str, ...]
    low: float
    high: float
    label: str
    opacity: float = 1.0

    def qml(self) -> str:
        """The style as QGIS reads it."""
        step = (self.high - self.low) / (len(self.colors) - 1)
        items = "".join(
            f'      <item value="{self.low + step * k!r}" color="{color}" alpha="255" '
            f"label={quoteattr(self.label.format(self.low + step * k))}/>\n"
            for k, color in enumerate(self.colors))
        return document(
            '  <rasterrenderer type="singlebandpseudocolor" band="1" '
            f'opacity="{self.opacity:g}" alphaBand="-1" classificationMin="{self.low!r}" '
            f'classificationMax="{self.high!r}" nodataColor="">\n   <rastershader>\n'
            '    <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" '
            f'minimumValue="{self.low!r}" maximumValue="{self.high!r}">\n{items}'
            "    </colorrampshader>\n   </rastershader>\n  </rasterrenderer>\n")


#: Percentages from 0 to 100.
PERCENT = Ramp(CIVIDIS, 0.0, 100.0, "{:.0f} %")


def classes_qml(legend: Legend) -> str:
    """The style of a class raster: one colour and name a class."""
    entries = "".join(
        f'    <paletteEntry value="{c.value}" color="{c.color}" alpha="255" '
        f"label={quoteattr(c.name)}/>\n" for c in legend.classes)
    return document(
        '  <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">\n'
        f"   <colorPalette>\n{entries}   </colorPalette>\n  </rasterrenderer>\n")


def document(renderer: str) -> str:
    """A `.qml` of a raster, around its renderer."""
    return ('<!DOCTYPE qgis PUBLIC "http://mrcc.com/qgis.dtd" "SYSTEM">\n'
            '<qgis version="3.22.0" styleCategories="Symbology">\n <pipe>\n'
            '  <provider><resampling enabled="false" zoomedInResamplingMethod="nearestNeighbour" '
            'zoomedOutResamplingMethod="nearestNeighbour" maxOversampling="2"/></provider>\n'
            f'{renderer}  <brightnesscontrast brightness="0" contrast="0" gamma="1"/>\n'
            ' </pipe>\n</qgis>\n')
