"""Real imagery all the way: rasters to stack to embeddings to a map, with real parcels as labels.

``python tests/engine/test_real_path.py`` prints the accuracy table of `docs/evaluation.md`.
"""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.features import shapes

from earthprint.engine import jobs
from earthprint.engine.context import JobContext
from earthprint.engine.rasters.embeddings import EmbeddingsFile

PATCHES = "crop-worldcereal-patches"
CROPS = {1200: "maize", 9120: "grassland", 7900: "dry pulses", 2130: "cabbage", 5100: "potato",
         1910: "winter cereal", 1110: "winter wheat", 2000: "vegetables", 1400: "sorghum",
         9998: "mixed"}
#: Patch to its rasters below the patch's folder; the third patch has one parcel of most crops.
INPUTS = {
    "belgium-2018-polders": ("s2_10m", "s2_20m", "s1_vv_vh_20m"),
    "belgium-2019-north": ("s2_20m_stack.tif", "s1_vv_vh_20m_stack.tif"),
}


def write_parcels(folder, path):
    """The labelled parcels of a patch as polygons; the crop codes of the label raster."""
    with rasterio.open(folder / "labels_LC_CT_10m.tif") as dataset:
        codes, crs = dataset.read(2), dataset.crs.to_wkt()
        found = [(shapely.geometry.shape(outline), CROPS[int(code)])
                 for outline, code in shapes(codes.astype(np.int32), connectivity=4,
                                             transform=dataset.transform) if int(code) in CROPS]
    names = [name for _, name in found]
    kept = [(s, name) for s, name in found if names.count(name) > 1]
    pyogrio.raw.write(path, np.array([shapely.to_wkb(s) for s, _ in kept], object),
                      [np.array([name for _, name in kept], object)], ["crop"],
                      geometry_type="Polygon", crs=crs, driver="GPKG")
    return codes


def map_crops(shared, patch, out, **more):
    """Run the job `crop_classification` on a patch: (result, crop codes)."""
    folder = shared / "data" / PATCHES / patch
    codes = write_parcels(folder, out / "parcels.gpkg")
    made = jobs.run("crop_classification", {
        "input": [str(folder / name) for name in INPUTS[patch]], "field": "crop",
        "labels": str(out / "parcels.gpkg"), "output": str(out / "crops.tif"), **more},
        JobContext())
    return made, codes


@pytest.mark.parametrize("patch", ["belgium-2018-polders", "belgium-2019-north"])
def test_real_parcels(shared, patch, tmp_path):
    made, codes = map_crops(shared, patch, tmp_path, folds=3,
                            report=str(tmp_path / "report.html"),
                            embeddings=str(tmp_path / "embeddings.tif"))
    scores = made["scores"]
    assert scores["overall"] > 0.55
    assert {"embeddings", "bands", "both"} == set(scores["features"])
    assert scores["forest_on_bands"] is not None
    with rasterio.open(made["output"]) as dataset, rasterio.open(
            shared / "data" / PATCHES / patch / "labels_LC_CT_10m.tif") as labels:
        where = rasterio.warp.transform(labels.crs, dataset.crs, *labels.xy(*np.nonzero(
            codes == 1200)))
        mapped = np.array([v[0] for v in dataset.sample(np.column_stack(where))])
    value = next(a["value"] for a in made["areas"] if a["name"] == "maize")
    assert (mapped == value).mean() > 0.7
    assert "<html" in (tmp_path / "report.html").read_text()
    with EmbeddingsFile(tmp_path / "embeddings.tif") as file:
        assert len(file.dates) > 50


@pytest.mark.parametrize(("folder", "least"), [
    ("worldcereal-cube-netcdf/worldcereal_preprocessed_inputs.nc", 0.95),
    ("cbers4-awfi-bahia-stack", 0.95),
    ("sentinel2-bouconne-2018-stack", 0.99),
])
def test_real_stacks_without_labels_become_groups(shared, folder, least, tmp_path):
    source = shared / "data" / folder
    given = sorted(source.glob("*.tif")) or [source]  # not the folders below
    jobs.run("build_stack", {"sources": [str(p) for p in given],
                             "output": str(tmp_path / "a.stack.json")}, JobContext())
    jobs.run("encode", {"input": [str(tmp_path / "a.stack.json")],
                        "output": str(tmp_path / "e.tif")}, JobContext())
    made = jobs.run("cluster_embeddings", {
        "input": [str(tmp_path / "e.tif")], "output": str(tmp_path / "groups.tif"),
        "clusters": 5}, JobContext())
    with EmbeddingsFile(tmp_path / "e.tif") as file:
        assert (file.codes(file.grid.full)[..., 0] != 0).mean() > least
    assert sum(a["pixels"] > 0 for a in made["areas"]) == 5


def main():
    """Blocked cross-validation of every patch as a Markdown table."""
    root = Path(__file__).resolve().parents[2]
    shared = Path(os.environ.get("EARTHPRINT_SHARED", root.parent / "shared"))
    lines = ["| patch | parcels, classes | embeddings | bands | both | chosen: macro F1, "
             "OA | random forest on bands | random split |", "|-" * 8 + "|"]
    for patch in INPUTS:
        with tempfile.TemporaryDirectory() as folder:
            made, _ = map_crops(shared, patch, Path(folder))
            names = pyogrio.raw.read(Path(folder) / "parcels.gpkg")[3][0]
            counts = f"{len(names)}, {len(set(names))}"
        s = made["scores"]
        kinds = [f"{100 * f['macro_f1']:.0f} ± {100 * f['spread']:.0f}"
                 for f in (s["features"].get(k) for k in ("embeddings", "bands", "both"))]
        lines.append(
            f"| {patch} | {counts} | {' | '.join(kinds)} | {100 * s['macro_f1']:.0f}, "
            f"{100 * s['overall']:.0f} | {100 * s['forest_on_bands']:.0f} | "
            f"{100 * s['macro_f1_random_split']:.0f} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
