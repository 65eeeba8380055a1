"""The demo: from a folder of dated rasters to a crop map, headless, through the plugin.

``demo.py`` makes a synthetic season with known truth first; ``demo.py FOLDER`` takes the user's
own rasters: with labels as a vector file in the folder it maps their classes, without it maps
groups of alike pixels. Results go to out/demo.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "build" / "plugins"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from process import PROGRAM  # noqa: E402

from earthprint.engine import environment  # noqa: E402

OUT = ROOT / "out" / "demo"
VECTORS = (".gpkg", ".geojson", ".shp", ".fgb")
#: Names that class fields usually have, best first.
CLASS_FIELDS = ("crop", "class", "classname", "label", "landcover", "type", "code", "name")


#: The progress that qgis_process prints between the lines of the log.
DOTS = re.compile(r"^[\d.]* - done\.$|^(?:\d{0,3}\.)+\d{0,3}(?=[A-Z]|$)|^(?:\d{0,3}\.)+|"
                  r"^\d{1,3}(?=[A-Z])|^-+$")
#: One line a scene or a fold: too much for a demo.
DETAIL = re.compile(
    r"\d{4}-\d\d-\d\d  |Looking|Testing|Counting|Training|Reading|Mapping|Writing|Encoding|"
    r"Finding|Grouping")


class DemoError(Exception):
    """A step failed; the message is for the user."""


def say(text):
    """One calm line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run_job(job, **params):
    """Run a job of the engine without QGIS."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump({"job": job, "params": params}, file)
    command = [str(environment.find_python()), "-I", str(environment.LAUNCHER), "run", file.name]
    try:
        done = subprocess.run(command, env=environment.clean_variables(), check=False,
                              capture_output=True, text=True)
    finally:
        Path(file.name).unlink()
    if done.returncode:
        raise DemoError(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout)


def run_algorithm(name, **values):
    """Run an algorithm of the plugin through qgis_process and pass its log on."""
    words = [PROGRAM, "run", "earthprint:" + name, "--"]
    for key, value in values.items():
        many = value if isinstance(value, list) else [value]
        words += [f"{key}={v}" for v in many]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               encoding="utf-8", errors="replace")
    lines, told = [], False
    for line in process.stdout:
        line = line.rstrip()
        lines.append(line)
        if line.startswith("Results"):
            told = False
        text = DOTS.sub("", line).strip().replace("WARNING:\t", "Warning: ")
        if told and text and not DETAIL.match(text):
            say("  " + text)
        if line.startswith("Earthprint "):
            told = True
    if process.wait():
        reason = next((line for line in lines if line.startswith("ERROR")), lines[-1])
        raise DemoError(f"{name}: {reason}")


def labels_in(folder):
    """The vector file of a folder and its class field, or (None, None)."""
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in VECTORS)
    if not found:
        return None, None
    if len(found) > 1:
        say(f"Several vector files; {found[0].name} is taken as labels")
    python = environment.find_python()
    asked = subprocess.run(
        [str(python), "-I", "-c", "import sys, pyogrio; "
         "print(*pyogrio.read_info(sys.argv[1])['fields'], sep='\\n')", str(found[0])],
        env=environment.clean_variables(), capture_output=True, text=True, check=False)
    fields = asked.stdout.split("\n")[:-1]
    if asked.returncode or not fields:
        raise DemoError(f"{found[0].name} has no field that could hold a class.")
    by_name = {field.lower(): field for field in fields}
    field = next((by_name[name] for name in CLASS_FIELDS if name in by_name), fields[0])
    return found[0], field


def season():
    """Make the demo's season, once: (folder of scenes, labels, class field)."""
    folder = OUT / "season"
    say("Demo season: a synthetic Sentinel-1/2 year with known truth")
    run_job("simulate_season", output=str(folder))
    for name in ("truth.tif", "truth.tif.aux.xml", "truth.qml"):
        if (folder / name).exists():
            shutil.copy2(folder / name, OUT / name)
    return folder / "scenes", folder / "labels.gpkg", "crop"


def main(words):
    """Run the demo; the exit status."""
    start = time.monotonic()
    folder = Path(words[0]).resolve() if words else None
    if folder is not None and not folder.is_dir():
        raise DemoError(f"There is no folder {folder}.")
    shutil.rmtree(OUT, ignore_errors=True)  # results of two runs must not lie side by side
    OUT.mkdir(parents=True)
    if folder is not None:
        title, scenes = folder.name, folder
        labels, field = labels_in(folder)
    else:
        title = "Demo season 2024"
        scenes, labels, field = season()
    stack, embeddings = OUT / "stack.json", OUT / "embeddings.tif"
    say("Build stack")
    run_algorithm("buildstack", FOLDER=scenes, OUTPUT=stack)
    say("Encode")
    run_algorithm("encode", INPUT=stack, OUTPUT=embeddings)
    if labels:
        shutil.copy2(labels, OUT / ("labels" + labels.suffix))
        say(f"Crop classification ({labels.name}, field {field})")
        run_algorithm("cropclassification", INPUT=[stack, embeddings], LABELS=labels, FIELD=field,
                      OUTPUT=OUT / "crop_map.tif", CONFIDENCE=OUT / "confidence.tif",
                      REPORT=OUT / "report.html")
        title += " - crop map"
    else:
        say("Cluster embeddings (no labels in the folder)")
        run_algorithm("clusterembeddings", INPUT=embeddings, OUTPUT=OUT / "groups.tif")
        title += " - groups"
    say("Project and picture")
    subprocess.run(["/usr/bin/python3", str(ROOT / "tools" / "map_project.py"), str(OUT), title],
                   check=True, stderr=subprocess.DEVNULL,
                   env={**os.environ, "GDAL_PAM_ENABLED": "NO"})
    report = "report.html, " if labels else ""
    say(f"Done in {time.monotonic() - start:.0f} s. Look at out/demo: map.png, {report}"
        "project.qgz")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except DemoError as failure:
        sys.stderr.write(f"The demo stopped. {failure}\n")
        sys.exit(1)
