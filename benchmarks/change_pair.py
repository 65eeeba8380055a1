"""Change between two real dates, labelled: Landsat 7 over Taizhou, 2000-03-17 and 2003-02-06.

    PYTHONPATH=build/plugins EARTHPRINT_SHARED=... .venv/engine/bin/python benchmarks/change_pair.py

The files hold digital numbers, no reflectance. They are taken as they are, and with each band of
each date brought to the mean and spread of reflectance that such land has, as a stand-in for the
calibration that is lost. Beside them change vector analysis: length of the difference of
standardised bands. The area under the curve needs no threshold; the rest is the job's own map.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from sklearn.metrics import cohen_kappa_score, f1_score, roc_auc_score

from earthprint.engine import jobs
from earthprint.engine.context import JobContext

DATES = {"landsat7_t1_2000.tif": "2000-03-17", "landsat7_t2_2003.tif": "2003-02-06"}
#: Plausible reflectance of blue green red nir swir1 swir2: mean and spread.
MEAN = np.array([0.09, 0.10, 0.11, 0.22, 0.20, 0.14])[:, None, None]
SPREAD = np.array([0.02, 0.025, 0.035, 0.06, 0.06, 0.05])[:, None, None]


def standardised(bands: np.ndarray) -> np.ndarray:
    """(bands, rows, cols) with mean 0 and spread 1 each."""
    return (bands - bands.mean((1, 2), keepdims=True)) / bands.std((1, 2), keepdims=True)


def as_reflectance(source: Path, target: Path) -> None:
    """Write a file's bands with plausible means and spreads, times 10000."""
    with rasterio.open(source) as dataset:
        bands, profile, names = dataset.read().astype(float), dataset.profile, dataset.descriptions
    codes = np.clip(1e4 * (standardised(bands) * SPREAD + MEAN), 1, 1e4).astype(np.uint16)
    with rasterio.open(target, "w", **{**profile, "dtype": "uint16"}) as dataset:
        dataset.write(codes)
        dataset.descriptions = names


def change(folder: Path, scratch: Path, sensor: dict) -> tuple[np.ndarray, np.ndarray]:
    """The job's map (bool) and distances."""
    made = []
    for name, day in DATES.items():
        stack, path = scratch / f"{name}.stack.json", scratch / f"{name}.e.tif"
        jobs.run("build_stack", {"sources": [str(folder / name)], "dates": [day],
                                 "output": str(stack), **sensor}, JobContext())
        jobs.run("encode", {"input": [str(stack)], "output": str(path)}, JobContext())
        made.append([str(path)])
    map_, distance = scratch / "map.tif", scratch / "distance.tif"
    jobs.run("change_detection", {"before": made[0], "after": made[1], "output": str(map_),
                                  "distance": str(distance)}, JobContext())
    with rasterio.open(map_) as one, rasterio.open(distance) as two:
        return one.read(1) == 1, two.read(1).astype(float)


def main() -> None:
    """Print the table."""
    shared = Path(os.environ.get("EARTHPRINT_SHARED",
                                 Path(__file__).resolve().parents[2] / "shared"))
    folder = shared / "data" / "change-landsat-china" / "taizhou"
    with rasterio.open(folder / "labels_left_half.tif") as dataset:
        labels = dataset.read(1)
    known, true = labels > 0, labels[labels > 0] == 2
    print("| | area under the curve | OA | F1 | kappa | precision | recall |\n" + "|-" * 7 + "|")
    for title in ("digital numbers as they are", "brought to plausible reflectance"):
        with tempfile.TemporaryDirectory() as scratch:
            source, sensor = folder, {}
            if title.startswith("brought"):
                source, sensor = Path(scratch), {"sensor": "landsat"}
                for name in DATES:
                    as_reflectance(folder / name, source / name)
            changed, distance = (a[known] for a in change(source, Path(scratch), sensor))
        print(f"| embeddings, {title} | {roc_auc_score(true, distance):.3f} | "
              f"{(changed == true).mean():.3f} | {f1_score(true, changed):.3f} | "
              f"{cohen_kappa_score(true, changed):.3f} | "
              f"{true[changed].mean():.3f} | {changed[true].mean():.3f} |", flush=True)
    dates = []
    for name in DATES:
        with rasterio.open(folder / name) as dataset:
            dates.append(standardised(dataset.read().astype(float)))
    length = np.linalg.norm(dates[1] - dates[0], axis=0)[known]
    print(f"| change vectors of standardised bands | {roc_auc_score(true, length):.3f} | | | | | |")


if __name__ == "__main__":
    main()
