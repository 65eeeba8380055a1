"""Sampling design and Assess accuracy, from the form to the visited points and the report."""

from __future__ import annotations

from pathlib import Path

import processing
import pytest
from osgeo import gdal, ogr
from qgis.core import (
    QgsExpression,
    QgsExpressionContext,
    QgsExpressionContextUtils,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterVectorLayer,
    QgsProject,
    QgsRasterLayer,
    QgsRenderContext,
    QgsVectorLayer,
    edit,
)

gdal.UseExceptions()


@pytest.fixture(scope="module")
def crops(plugin, made, tmp_path_factory) -> str:
    """The crop map of the season."""
    path = str(tmp_path_factory.mktemp("map") / "crops.tif")
    processing.run("earthprint:applyhead", {"INPUT": [made["embeddings"]], "HEAD": made["head"],
                                            "OUTPUT": path})
    return path


@pytest.fixture
def points(crops, tmp_path) -> str:
    path = str(tmp_path / "points.gpkg")
    processing.run("earthprint:samplingdesign", {
        "MAP": crops, "TARGET_ERROR": 3, "MIN_PER_CLASS": 12, "OUTPUT": path})
    return path


def visit(path: str, season: Path) -> None:
    """What an analyst does: look, and fill in the true class."""
    truth = gdal.Open(str(season / "truth.tif"))
    left, width, _, top, _, height = truth.GetGeoTransform()
    values = truth.ReadAsArray()
    table = truth.GetRasterBand(1).GetDefaultRAT()
    value, name = table.GetColOfUsage(gdal.GFU_MinMax), table.GetColOfUsage(gdal.GFU_Name)
    names = {table.GetValueAsInt(r, value): table.GetValueAsString(r, name)
             for r in range(table.GetRowCount())}
    layer = QgsVectorLayer(path, "points", "ogr")
    with edit(layer):
        for feature in layer.getFeatures():
            place = feature.geometry().asPoint()
            row, col = int((place.y() - top) / height), int((place.x() - left) / width)
            feature["reference"] = names.get(int(values[row, col]), "other")
            layer.updateFeature(feature)


def symbols(layer: QgsVectorLayer) -> list[tuple[str, str]]:
    """Shape and colour of each feature's symbol, as drawn."""
    context = QgsRenderContext()
    context.expressionContext().appendScopes(
        QgsExpressionContextUtils.globalProjectLayerScopes(layer))
    renderer = layer.renderer().clone()
    renderer.startRender(context, layer.fields())
    found = []
    for feature in layer.getFeatures():
        context.expressionContext().setFeature(feature)
        (symbol,) = renderer.symbolsForFeature(feature, context)
        mark = symbol.symbolLayer(0)
        found.append((mark.encodeShape(mark.shape()), mark.color().name()))
    renderer.stopRender(context)
    return found


def test_points_arrive_with_form_and_symbols(plugin, project, crops, tmp_path, log):
    processing.runAndLoadResults(
        "earthprint:samplingdesign",
        {"MAP": crops, "TARGET_ERROR": 3, "MIN_PER_CLASS": 12,
         "OUTPUT": str(tmp_path / "points.gpkg")}, feedback=log,
    )
    (layer,) = project.mapLayers().values()
    assert layer.name() == "Points to visit"
    assert QgsProject.instance().layerTreeRoot().findGroup("crops - accuracy") is not None
    fields = layer.fields()
    widgets = {f.name(): layer.editorWidgetSetup(i).type() for i, f in enumerate(fields)}
    assert widgets["reference"] == "ValueMap"
    assert {n for n, kind in widgets.items() if kind == "Hidden"} == {
        "fid", "stratum", "class", "inclusion", "stratum_px"}
    answers = layer.editorWidgetSetup(fields.indexOf("reference")).config()["map"]
    names = [name for answer in answers for name in answer]
    assert len(names) >= 3 and not any(name.isdigit() for name in names)
    hidden = {c.name for c in layer.attributeTableConfig().columns() if c.hidden and c.name}
    assert "class" in hidden and "reference" not in hidden
    assert layer.attributeAlias(fields.indexOf("reference")) == "True class"
    assert set(symbols(layer)) == {("square", "#f0e442")}
    first = next(layer.getFeatures())
    with edit(layer):
        layer.changeAttributeValue(first.id(), fields.indexOf("reference"), names[0])
    assert symbols(layer).count(("circle", "#0072b2")) == 1
    assert "Again: ./run process samplingdesign" in log.text


def test_another_project_shows_the_same(points):
    """The form lies beside the file, not in the project."""
    layer = QgsVectorLayer(points, "points", "ogr")
    assert layer.renderer().type() == "RuleRenderer"
    assert layer.editorWidgetSetup(layer.fields().indexOf("reference")).type() == "ValueMap"


def test_from_visited_points_to_a_report(plugin, crops, points, season, tmp_path, log):
    visit(points, season)
    places = {"REPORT": str(tmp_path / "report.html"), "TABLE": str(tmp_path / "table.csv")}
    answer = processing.run(
        "earthprint:assessaccuracy",
        {"MAP": crops, "REFERENCE": points, "FIELD": "reference", **places}, feedback=log,
    )
    assert answer == places
    page = Path(places["REPORT"]).read_text(encoding="utf-8")
    for words in ("Olofsson", "95 % interval", "./run process assessaccuracy", f"MAP={crops}"):
        assert words in page
    lines = Path(places["TABLE"]).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("value,class,reference ") and lines[-1].startswith(",all,")
    assert "Overall accuracy" in log.text


def test_strata_of_an_older_map_and_of_a_field(plugin, crops, points, season, made, tmp_path):
    visit(points, season)
    older = str(tmp_path / "groups.tif")
    processing.run("earthprint:clusterembeddings",
                   {"INPUT": made["embeddings"], "CLUSTERS": 4, "OUTPUT": older})
    for strata in ({"STRATA": older}, {"STRATA_FIELD": "class"}):
        report = str(tmp_path / "report.html")
        processing.run("earthprint:assessaccuracy", {
            "MAP": crops, "REFERENCE": points, "FIELD": "reference", "REPORT": report, **strata})
        assert "Stehman" in Path(report).read_text(encoding="utf-8")


def test_an_edited_layer_of_the_project(plugin, project, crops, points, season, tmp_path):
    """Half of the points selected, in a filtered layer: what is seen is what counts."""
    visit(points, season)
    layer = QgsVectorLayer(points, "points", "ogr")
    layer.setSubsetString("id <= 40")
    project.addMapLayer(layer)
    context = QgsProcessingContext()
    context.setProject(project)
    table = str(tmp_path / "table.csv")
    processing.run("earthprint:assessaccuracy", {
        "MAP": crops, "REFERENCE": layer, "FIELD": "reference", "TABLE": table}, context=context)
    total = Path(table).read_text(encoding="utf-8").splitlines()[-1].split(",")
    assert "40" in total


def test_unvisited_points_are_a_sentence(plugin, crops, points, tmp_path):
    report = tmp_path / "report.html"
    with pytest.raises(QgsProcessingException, match="Visit the points"):
        processing.run("earthprint:assessaccuracy", {
            "MAP": crops, "REFERENCE": points, "FIELD": "reference", "REPORT": str(report)})
    assert not report.exists()


@pytest.fixture(scope="module")
def truth(season) -> str:
    """The season's truth, every pixel of it."""
    return str(season / "truth.tif")


@pytest.mark.parametrize("how", ["path", "layer"])
def test_a_raster_of_reference(plugin, project, crops, truth, tmp_path, log, how):
    """Counted, as NumPy counts it; the command repeats the run."""
    layer = QgsRasterLayer(truth, "truth")
    project.addMapLayer(layer)
    context = QgsProcessingContext()
    context.setProject(project)
    places = {"REPORT": str(tmp_path / "report.html"), "TABLE": str(tmp_path / "table.csv")}
    answer = processing.run(
        "earthprint:assessaccuracy",
        {"MAP": crops, "REFERENCE_RASTER": truth if how == "path" else layer, **places},
        context=context, feedback=log,
    )
    assert answer == places
    page = Path(places["REPORT"]).read_text(encoding="utf-8")
    for words in ("no sampling error", "by the names of both legends",
                  f"REFERENCE_RASTER={truth}", f"MAP={crops}"):
        assert words in page
    assert "95 %" not in page
    names, ours = legend(crops), gdal.Open(crops).ReadAsArray().ravel().tolist()
    true, theirs = legend(truth), gdal.Open(truth).ReadAsArray().ravel().tolist()
    pairs = [(names[a], true[b]) for a, b in zip(ours, theirs) if a in names and b in true]
    lines = [line.split(",") for line in
             Path(places["TABLE"]).read_text(encoding="utf-8").splitlines()]
    pixels = lines[0].index("pixels")
    assert int(lines[-1][pixels]) == len(pairs) > 1000
    counted = {line[1]: int(line[pixels]) for line in lines[1:-1]}
    for name in set(names.values()):
        assert counted.get(name, 0) == sum(a == name for a, _ in pairs)
    right = sum(a == b for a, b in pairs) / len(pairs)
    assert float(lines[-1][lines[0].index("users_accuracy")]) == pytest.approx(right, abs=2e-4)
    assert "Overall accuracy" in log.text


def legend(path: str) -> dict[int, str]:
    """Class names by value, as QGIS shows them."""
    layer = QgsRasterLayer(path)  # it owns the renderer
    return {int(c.value): c.label for c in layer.renderer().classes()}


def test_what_is_true_is_given_once_and_completely(registry, crops, points, truth):
    form = registry.algorithmById("earthprint:assessaccuracy").create()
    features = {"REFERENCE": points, "FIELD": "reference"}
    raster = {"REFERENCE_RASTER": truth}
    assert form.unmet(features) == "" and form.unmet(raster) == ""
    assert "not both" in form.unmet({**features, **raster})
    assert "or a Reference raster" in form.unmet({})
    assert "True class" in form.unmet({"REFERENCE": points})
    assert "Strata" in form.unmet({**raster, "STRATA": crops})


def test_two_kinds_of_strata_are_refused(registry, crops, points):
    algorithm = registry.algorithmById("earthprint:assessaccuracy").create()
    good, said = algorithm.checkParameterValues(
        {"MAP": crops, "REFERENCE": points, "FIELD": "reference", "STRATA": crops,
         "STRATA_FIELD": "class", "REPORT": "TEMPORARY_OUTPUT"}, QgsProcessingContext())
    assert not good and "not both" in said


def test_both_in_a_model(plugin, crops, points, season, tmp_path):
    """A model of both: points for the next round, and the assessment of the last one."""
    visit(points, season)
    model = QgsProcessingModelAlgorithm("round", "test")
    for parameter in (QgsProcessingParameterRasterLayer("MAP", "Map"),
                      QgsProcessingParameterVectorLayer("POINTS", "Visited")):
        model.addModelParameter(parameter, QgsProcessingModelParameter(parameter.name()))
    given = QgsProcessingModelChildParameterSource.fromModelParameter
    fixed = QgsProcessingModelChildParameterSource.fromStaticValue
    for name, sources, output in (
        ("samplingdesign", {"MAP": given("MAP"), "TARGET_ERROR": fixed(5), "SEED": fixed(1)},
         "OUTPUT"),
        ("assessaccuracy", {"MAP": given("MAP"), "REFERENCE": given("POINTS"),
                            "FIELD": fixed("reference")}, "REPORT"),
    ):
        child = QgsProcessingModelChildAlgorithm(f"earthprint:{name}")
        child.setChildId(name)
        for key, source in sources.items():
            child.addParameterSources(key, [source])
        made = QgsProcessingModelOutput(output.lower())
        made.setChildId(name)
        made.setChildOutputName(output)
        child.setModelOutputs({output.lower(): made})
        model.addChildAlgorithm(child)
    places = {"samplingdesign:output": str(tmp_path / "next.gpkg"),
              "assessaccuracy:report": str(tmp_path / "report.html")}
    processing.run(model, {"MAP": crops, "POINTS": points, **places})
    assert ogr.Open(places["samplingdesign:output"]).GetLayer(0).GetFeatureCount() > 50
    assert "Olofsson" in Path(places["assessaccuracy:report"]).read_text(encoding="utf-8")


def test_what_is_to_visit_can_be_filtered(points):
    """The rule of the symbols is plain enough for a filter on any system."""
    layer = QgsVectorLayer(points, "points", "ogr")
    rule = layer.renderer().rootRule().children()[0].filterExpression()
    context = QgsExpressionContext(QgsExpressionContextUtils.globalProjectLayerScopes(layer))
    feature = next(layer.getFeatures())
    for answer, expected in ((None, 1), ("", 1), (" ", 1), ("maize", 0)):
        feature["reference"] = answer
        context.setFeature(feature)
        assert QgsExpression(rule).evaluate(context) == expected
