"""QGIS style of numbers: the Inferno ramp between two values, in five steps of the legend."""

from __future__ import annotations

#: Anchors of Inferno (van der Walt and Smith 2015) at 0, 25, 50, 75, 100 % of the range.
INFERNO = ("#000004", "#57106e", "#bc3754", "#f98e09", "#fcffa4")


def ramp_qml(low: float, high: float, label: str) -> str:
    """A `.qml` that shows band 1 from `low` to `high`; values outside take the end's colour.

    Args:
        label: format of a number in the legend, such as "{:.2f}".
    """
    values = [low + (high - low) * k / (len(INFERNO) - 1) for k in range(len(INFERNO))]
    items = "".join(
        f'      <item value="{value!r}" color="{color}" alpha="255" '
        f'label="{label.format(value)}"/>\n'
        for value, color in zip(values, INFERNO, strict=True))
    return ('<!DOCTYPE qgis PUBLIC "http://mrcc.com/qgis.dtd" "SYSTEM">\n'
            '<qgis version="3.22.0" styleCategories="Symbology">\n <pipe>\n'
            '  <rasterrenderer type="singlebandpseudocolor" band="1" opacity="1" alphaBand="-1" '
            f'classificationMin="{low!r}" classificationMax="{high!r}" nodataColor="">\n'
            '   <rastershader>\n    <colorrampshader colorRampType="INTERPOLATED" '
            f'classificationMode="1" clip="0" minimumValue="{low!r}" maximumValue="{high!r}">\n'
            f"{items}    </colorrampshader>\n   </rastershader>\n  </rasterrenderer>\n"
            " </pipe>\n</qgis>\n")
