"""From labels to maps, end to end, on a small season with known truth and on real patches."""

import json
import struct
from pathlib import Path

import numpy as np
import onnx
import pyogrio
import pytest
import rasterio
from rasterio.transform import Affine

from earthprint.engine import jobs
from earthprint.engine.context import JobContext
from earthprint.engine.errors import Cancelled, UserError
from earthprint.engine.heads import reasons
from earthprint.engine.heads.head import Head
from earthprint.engine.heads.origin import KEY, Origin
from earthprint.engine.rasters.embeddings import EmbeddingsFile
from earthprint.engine.rasters.grid import Grid

SIDE, FIELD = 160, 10
DATES = ("20230415", "20230510", "20230602", "20230705", "20230803", "20230904", "20231001")
GREEN = {  # share of green cover on each date
    "maize": (0.05, 0.1, 0.3, 0.8, 0.95, 0.8, 0.2),
    "winter wheat": (0.8, 0.95, 0.8, 0.2, 0.1, 0.1, 0.2),
    "grassland": (0.6, 0.7, 0.7, 0.65, 0.6, 0.65, 0.7)}
SOIL = np.array([900, 1200, 1500, 1700, 1900, 2000, 2200, 2300, 3000, 2600])
LEAF = np.array([300, 600, 350, 900, 2600, 3200, 3800, 4000, 1900, 1000])
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12", "SCL")
AFFINE = Affine(10, 0, 5e5, 0, -10, 5.6e6)


def polygon(row, col, rows, cols):
    x, y = AFFINE @ (col, row)
    points = np.array([[x, y], [x + 10 * cols, y], [x + 10 * cols, y - 10 * rows],
                       [x, y - 10 * rows], [x, y]])
    return struct.pack("<BIII", 1, 3, 1, 5) + points.tobytes()


def write_labels(path, geometry, names, field="crop"):
    pyogrio.raw.write(path, np.array(geometry, object), [np.array(names, object)], [field],
                      geometry_type="Polygon", crs="EPSG:32631", driver="GPKG")


@pytest.fixture(scope="module")
def season(tmp_path_factory):
    """A folder with scenes, labels.gpkg (a sixth of the fields), and the truth in memory."""
    folder = tmp_path_factory.mktemp("season")
    rng = np.random.default_rng(0)
    count = SIDE // FIELD
    crops = rng.permutation(np.arange(count * count) % 3).reshape(count, count)
    names = list(GREEN)
    truth = np.kron(crops, np.ones((FIELD, FIELD), int))
    vigour = np.kron(rng.normal(0, 0.06, (count, count)), np.ones((FIELD, FIELD)))
    (folder / "scenes").mkdir()
    for t, date in enumerate(DATES):
        green = np.array([GREEN[n][t] for n in names])[truth] + vigour
        green = np.clip(green + rng.normal(0, 0.05, green.shape), 0, 1)
        data = SOIL[:, None, None] * (1 - green) + LEAF[:, None, None] * green
        data = data * rng.normal(1, 0.03, data.shape)
        scl = np.where(rng.random(green.shape) < 0.15, 9, 4)
        scl[:3, :3] = 9  # never seen
        path = folder / "scenes" / f"S2A_MSIL2A_{date}T105031_N0400_R051_T31UFS.tif"
        with rasterio.open(path, "w", driver="GTiff", width=SIDE, height=SIDE, count=11,
                           dtype="uint16", nodata=0, crs="EPSG:32631", transform=AFFINE) as out:
            out.write(np.concatenate([data, scl[None]]).astype(np.uint16))
            for band, name in enumerate(BANDS, 1):
                out.set_band_description(band, name)
    chosen = rng.choice(count * count, count * count // 6, replace=False)
    write_labels(folder / "labels.gpkg",
                 [polygon(k // count * FIELD + 2, k % count * FIELD + 2, FIELD - 4, FIELD - 4)
                  for k in chosen], [names[crops.flat[k]] for k in chosen])
    return folder, truth, sorted(names), np.array([sorted(names).index(n) for n in names])[truth]


@pytest.fixture(scope="module")
def mapped(season, tmp_path_factory):
    """One full run of crop classification: parameters, result, log."""
    folder, out = season[0], tmp_path_factory.mktemp("out")
    said = []
    params = {"input": [str(folder / "scenes")], "labels": str(folder / "labels.gpkg"),
              "field": "crop", "output": str(out / "crops.tif"), "min_area_ha": 0.1,
              "confidence": str(out / "confidence.tif"), "report": str(out / "report.html"),
              "embeddings": str(out / "embeddings.tif"), "head_output": str(out / "a.head.onnx"),
              "seed": 1, "threads": 2}
    result = jobs.run("crop_classification", params,
                      JobContext(on_log=lambda level, text: said.append(text)))
    return params, result, said


def test_the_map_is_right_where_truth_is_known(season, mapped):
    params, result, said = mapped
    with rasterio.open(params["output"]) as dataset:
        crops = dataset.read(1)
        assert dataset.nodata == 255 and dataset.colormap(1)[2][:3] == (0xff, 0xd3, 0)
    known = crops != 255
    assert not known[0, 0] and known.mean() > 0.999
    assert (crops[known] == season[3][known] + 1).mean() > 0.93
    assert result["scores"]["macro_f1"] > 0.9
    with rasterio.open(params["confidence"]) as dataset:
        confidence = dataset.read(1)
    assert confidence[known].max() <= 100 and (confidence[~known] == 255).all()
    assert sum(a["pixels"] for a in result["areas"]) == known.sum()
    assert sum(a["hectares"] for a in result["areas"]) == pytest.approx(
        known.sum() / (100 * 0.9996**2), rel=1e-5)


def test_the_log_reads_calmly(mapped):
    _, _, said = mapped
    assert any(t.startswith("Labels: ") and "3 classes" in t for t in said)
    assert any("folds, blocks of" in t and "random split" in t for t in said)
    assert any(t.startswith("Crop map: ") and " ha, " in t for t in said)


def test_the_report_stands_alone(mapped):
    params, _, _ = mapped
    page = Path(params["report"]).read_text(encoding="utf-8")
    for title in ("Map", "Areas", "Accuracy", "Trust", "Data", "Labels", "Method"):
        assert f"</span>{title}</h2>" in page
    for forbidden in ("<script", "http://", "https://", "<link", "nan"):
        assert forbidden not in page.replace("http://www.w3.org", "")
    assert "data:image/png;base64," in page and "prefers-color-scheme: dark" in page
    assert "winter wheat" in page and "2023" in page


def test_embeddings_are_kept_and_the_head_works_on_them(mapped, tmp_path):
    params, result, _ = mapped
    with EmbeddingsFile(result["embeddings"]) as file:
        encoder = file.encoder
    head = Head.open(params["head_output"])
    assert head.card.layout.encoder in ("", encoder)
    assert head.card.legend.names == ("grassland", "maize", "winter wheat")
    assert Origin.of_card(head.card.source).seasons == (("2023-04-15", "2023-10-01"),)
    assert np.trace(head.card.validation["matrix"]) > 0.9 * np.sum(head.card.validation["matrix"])
    again = jobs.run("apply_head", {
        "input": params["input"] + [result["embeddings"]], "head": params["head_output"],
        "output": str(tmp_path / "again.tif"), "unlike": str(tmp_path / "unlike.tif"),
        "min_area_ha": 0.1, "threads": 1, "memory_mb": 3}, JobContext())
    with rasterio.open(params["output"]) as a, rasterio.open(again["output"]) as b:
        assert (a.read(1) == b.read(1)).mean() > 0.999  # any budget, any windows
    with rasterio.open(again["unlike"]) as dataset:
        unlike = dataset.read(1)
    assert set(np.unique(unlike)) <= {0, 1, 255} and (unlike == 1).mean() < 0.3


@pytest.mark.parametrize("features", ["embeddings", "bands", "both"])
def test_heads_of_every_kind_train_and_map_a_part(season, mapped, tmp_path, features):
    params, result, _ = mapped
    made = jobs.run("train_head", {
        "input": params["input"] + [result["embeddings"]], "labels": params["labels"],
        "field": "crop", "features": features, "output": str(tmp_path / "h.head.onnx"),
        "model": "logistic", "report": str(tmp_path / "r.html"), "threads": 2}, JobContext())
    assert made["scores"]["macro_f1"] > 0.85 and list(made["scores"]["features"]) == [features]
    head = Head.open(made["output"])
    assert head.card.layout.kind == features
    extent = [500403, 5599003, 500897, 5599397, "EPSG:32631"]
    out = jobs.run("apply_head", {"input": params["input"], "head": made["output"],
                                  "output": str(tmp_path / "m.tif"), "extent": extent},
                   JobContext())
    with rasterio.open(out["output"]) as dataset:
        part = dataset.read(1)
        assert dataset.shape == (40, 50) and dataset.transform.c == 500400
    wanted = season[3][60:100, 40:90] + 1
    assert (part == wanted).mean() > 0.85


def test_a_cutoff_uses_only_what_was_known_then(mapped, tmp_path):
    params, result, _ = mapped
    made = jobs.run("train_head", {
        "input": params["input"], "labels": params["labels"], "field": "crop",
        "features": "bands", "cutoff": "2023-06-30", "model": "logistic", "threads": 2,
        "output": str(tmp_path / "h.head.onnx")}, JobContext())
    head = Head.open(made["output"])
    assert head.card.cutoff == "2023-06-30"
    said = []
    jobs.run("apply_head", {"input": params["input"], "head": made["output"],
                            "output": str(tmp_path / "m.tif")},
             JobContext(on_log=lambda level, text: said.append(text)))
    assert any("2023-04-15..2023-06-30" in t or "..2023-06-02" in t for t in said)
    with pytest.raises(UserError, match="uses dates up to 2023-10-01, after 2023-06-30"):
        jobs.run("apply_head", {"input": [result["embeddings"]], "head": made["output"],
                                "cutoff": "2023-06-30", "output": str(tmp_path / "n.tif")},
                 JobContext())


def test_a_single_undated_image_is_enough(season, tmp_path):
    folder = season[0]
    with rasterio.open(next((folder / "scenes").glob("*20230510*"))) as dataset:
        data, profile = dataset.read([1, 2, 3, 7]), dataset.profile
    profile.update(count=4)
    with rasterio.open(tmp_path / "image.tif", "w", **profile) as out:
        out.write(data)
        out.descriptions = ("blue", "green", "red", "nir")
    made = jobs.run("crop_classification", {
        "input": [str(tmp_path / "image.tif")], "labels": str(folder / "labels.gpkg"),
        "field": "crop", "features": "bands", "model": "logistic",
        "output": str(tmp_path / "m.tif")}, JobContext())
    assert made["scores"]["overall"] > 0.6


def test_rasters_that_the_encoder_cannot_read_still_give_a_map(season, tmp_path):
    folder, said = season[0], []
    (tmp_path / "in").mkdir()
    for path in sorted((folder / "scenes").glob("*.tif"))[:3]:
        with rasterio.open(path) as dataset:
            data, profile = dataset.read([2, 3]), {**dataset.profile, "count": 2}
        target = tmp_path / "in" / f"S2_{path.name[11:19]}.tif"
        with rasterio.open(target, "w", **profile) as out:
            out.write(data)
            out.descriptions = ("B03", "B04")
    made = jobs.run("crop_classification", {
        "input": [str(tmp_path / "in")], "labels": str(folder / "labels.gpkg"), "field": "crop",
        "model": "logistic", "output": str(tmp_path / "m.tif")},
        JobContext(on_log=lambda *line: said.append(line)))
    assert list(made["scores"]["features"]) == ["bands"] and made["scores"]["overall"] > 0.7
    assert any(level == "warning" and "only the band series" in text for level, text in said)


def test_a_ready_made_head_maps_and_admits_what_it_does_not_know(mapped, tmp_path):
    params, result, _ = mapped
    made = jobs.run("crop_classification", {
        "input": params["input"] + [result["embeddings"]], "head": params["head_output"],
        "output": str(tmp_path / "m.tif"), "report": str(tmp_path / "r.html")}, JobContext())
    assert made["head"] == params["head_output"]
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "How right it is here was not measured" in page and ">Accuracy</h2>" not in page


def test_an_early_map_says_so_and_a_head_of_whole_seasons_is_warned_about(
        season, mapped, tmp_path):
    params, _, _ = mapped
    early = {"input": params["input"], "cutoff": "2023-06-30", "features": "bands",
             "model": "logistic", "threads": 2}
    made = jobs.run("crop_classification", {
        **early, "labels": params["labels"], "field": "crop", "output": str(tmp_path / "a.tif"),
        "report": str(tmp_path / "a.html")}, JobContext())
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "in season until 30 June 2023" in page and made["season"][1] == "2023-06-02"
    head = Head.open(params["head_output"])
    whole = Origin.of(Grid.of(rasterio.open(params["output"])), np.array([5]), np.array([5]),
                      ["2023-04-15", "2023-10-01"])
    copied = with_origin(params["head_output"], tmp_path / "whole.head.onnx", whole)
    said = []
    made = jobs.run("crop_classification", {
        **early, "head": str(copied), "output": str(tmp_path / "b.tif"),
        "unlike": str(tmp_path / "u.tif"), "report": str(tmp_path / "b.html")},
        JobContext(on_log=lambda *line: said.append(line)))
    assert any(level == "warning" and "was not trained on such a part" in text
               for level, text in said)
    with rasterio.open(tmp_path / "u.tif") as dataset, rasterio.open(tmp_path / "b.tif") as crops:
        unlike, answered = dataset.read(1), crops.read(1) != 255
    assert set(np.unique(unlike[answered])) <= {1, 2}
    page = (tmp_path / "b.html").read_text(encoding="utf-8")
    assert "Where it holds" in page and "outside" in page
    assert head.card.legend.names[0] in page


def with_origin(path, copy, origin):
    """A head's file with an origin in its card."""
    model = onnx.load(path)
    for entry in model.metadata_props:
        if entry.key == "earthprint_card":
            card = json.loads(entry.value)
            card["source"][KEY] = origin.record()
            entry.value = json.dumps(card)
    onnx.save(model, copy)
    return copy


def test_empty_and_withheld_pixels_have_reasons(season, mapped, tmp_path):
    params, result, _ = mapped
    places = {name: str(tmp_path / f"{name}.tif") for name in ("output", "reason", "unlike")}
    made = jobs.run("crop_classification", {
        "input": params["input"], "head": params["head_output"], "unknown": True, **places,
        "min_area_ha": 0, "smooth": False, "report": str(tmp_path / "r.html")}, JobContext())
    with rasterio.open(places["output"]) as crops, rasterio.open(places["reason"]) as dataset:
        crops, why = crops.read(1), dataset.read(1)
    assert (why[:3, :3] == reasons.CLOUD).all() and (why[crops < 254] == 0).all()
    assert ((why == reasons.UNLIKE) == (crops == 254)).all()
    shares = made["reasons"]
    assert shares["Cloud or shadow on every date"] >= 9 / SIDE**2
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Cloud or shadow on every date" in page and "answer withheld" in page


def test_weather_that_the_encoder_does_not_read_is_named(season, mapped, tmp_path):
    params, result, _ = mapped
    table = tmp_path / "weather.csv"
    days = np.arange("2023-01-01", "2024-01-01", dtype="datetime64[D]")
    table.write_text("date,temperature (degC),dewpoint (degC),rain (mm),radiation (MJ/m2),"
                     "wind (m/s)\n" + "\n".join(f"{d},12,6,2,12,3" for d in days))
    said, base = [], {"input": params["input"], "weather": str(table)}
    jobs.run("apply_head", {**base, "head": params["head_output"],
                            "output": str(tmp_path / "m.tif")},
             JobContext(on_log=lambda *line: said.append(line)))
    needed = Head.open(params["head_output"]).card.layout.dims > 0
    assert any("does not read weather" in text and "mmvsf-small" in text
               for level, text in said if level == "warning") == needed
    with pytest.raises(UserError, match="of no use with embeddings alone"):
        jobs.run("apply_head", {**base, "input": [result["embeddings"]],
                                "head": params["head_output"], "output": str(tmp_path / "n.tif")},
                 JobContext())


def test_weather_goes_into_an_encoder_that_reads_it(season, mapped, tmp_path):
    params, _, _ = mapped
    maps = []
    days = np.arange("2023-01-01", "2024-01-01", dtype="datetime64[D]")
    for warm in (0, 15):
        table = tmp_path / f"weather{warm}.csv"
        table.write_text("date,temperature (degC),dewpoint (degC),rain (mm),radiation (MJ/m2),"
                         "wind (m/s)\n" + "\n".join(f"{d},{12 + warm},6,2,12,3" for d in days))
        made = jobs.run("crop_classification", {
            "input": params["input"], "labels": params["labels"], "field": "crop",
            "encoder": "mmvsf-small", "features": "embeddings", "weather": str(table),
            "output": str(tmp_path / f"m{warm}.tif"), "embeddings": str(tmp_path / f"e{warm}.tif"),
            "model": "logistic", "threads": 2}, JobContext())
        with EmbeddingsFile(made["embeddings"]) as file:
            maps.append(file.codes(file.grid.full))
    assert (maps[0] != maps[1]).mean() > 0.2


def test_a_head_is_named_once(mapped, tmp_path):
    params, _, _ = mapped
    base = {"input": params["input"], "output": str(tmp_path / "m.tif")}
    with pytest.raises(UserError, match="Two heads"):
        jobs.run("crop_classification", {**base, "head": params["head_output"],
                                         "ready_head": "crops_flanders"}, JobContext())
    with pytest.raises(UserError, match="no ready-made head crops_moon.*crops_flanders"):
        jobs.run("crop_classification", {**base, "ready_head": "crops_moon"}, JobContext())


@pytest.mark.parametrize("name", ["crops_flanders", "crops_eastern_canada"])
def test_bundled_heads_map_elsewhere_and_say_how_far_that_is(mapped, tmp_path, name):
    params, result, _ = mapped
    said = []
    made = jobs.run("crop_classification", {
        "input": [result["embeddings"]], "ready_head": name, "output": str(tmp_path / "m.tif"),
        "unlike": str(tmp_path / "u.tif"), "report": str(tmp_path / "r.html")},
        JobContext(on_log=lambda *line: said.append(line)))
    head = Head.open(made["head"])
    assert head.card.source["sets"] and all(s["licence"] for s in head.card.source["sets"])
    assert Path(made["head"]).stat().st_size < 700_000
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    for part in ("Confusion matrix", "Precision", "Recall", "calibration error", "Where it holds",
                 "Training data", "Run it again", "Sampling design", "Limits"):
        assert part in page
    far = any("climate" in text for level, text in said if level == "warning")
    assert far == (name == "crops_eastern_canada")  # the season lies in Belgium


def test_groups_follow_the_crops(season, mapped, tmp_path):
    _, result, _ = mapped
    made = jobs.run("cluster_embeddings", {
        "input": [result["embeddings"]], "clusters": 4, "output": str(tmp_path / "g.tif")},
        JobContext())
    with rasterio.open(made["output"]) as dataset:
        groups = dataset.read(1)
    known = groups != 255
    hits = sum(np.bincount(season[1][groups == g]).max() for g in range(1, 5))
    assert hits / known.sum() > 0.75
    with pytest.raises(UserError, match="choose 2 to 254"):
        jobs.run("cluster_embeddings", {"input": [result["embeddings"]], "clusters": 1,
                                        "output": str(tmp_path / "h.tif")}, JobContext())


def test_wrong_requests_are_refused_and_leave_nothing(season, mapped, tmp_path):
    params, result, _ = mapped
    known = {"labels": params["labels"], "field": "crop"}
    base = {"input": params["input"], "output": str(tmp_path / "m.tif"),
            "report": str(tmp_path / "r.html")}
    for more, sentence in (
            ({}, "either labels .* or a ready-made head"),
            ({"labels": params["labels"]}, "No class field"),
            ({**known, "features": "magic"}, "no features magic"),
            ({**known, "model": "oracle"}, "no classifier"),
            ({**known, "encoder": "nobody"}, "no encoder nobody"),
            ({"head": params["report"]}, "cannot be read as a head"),
    ):
        with pytest.raises(UserError, match=sentence):
            jobs.run("crop_classification", {**base, **more}, JobContext())
    with pytest.raises(UserError, match="are both embeddings"):
        jobs.run("apply_head", {"input": [result["embeddings"]] * 2, "head": params["head_output"],
                                "output": base["output"]}, JobContext())
    assert not list(tmp_path.iterdir())


def test_cancelling_leaves_nothing(mapped, tmp_path):
    params, _, _ = mapped
    seen = []

    def stop():
        return bool(seen)

    context = JobContext(is_cancelled=stop, on_progress=lambda f, t: t.startswith("Mapping")
                         and seen.append(t))
    with pytest.raises(Cancelled):
        jobs.run("apply_head", {"input": params["input"], "head": params["head_output"],
                                "output": str(tmp_path / "m.tif"), "memory_mb": 3}, context)
    assert not list(tmp_path.iterdir())
