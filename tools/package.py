"""Make dist/earthprint-VERSION.zip, the plugin as QGIS installs it; standard library only.

Only what runs: no tests, benchmarks, tools or documents for developers. The same commit gives
the same bytes.
"""

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = ("tests/", "benchmarks/", "tools/", ".", "run", "build/", "out/", "pyproject.toml")
#: The plugin repository refuses larger files.
LIMIT = 20_000_000


def files():
    """Tracked files that belong to the plugin."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True,
                            check=True).stdout.split("\0")
    return sorted(name for name in listed if name and not name.startswith(LEFT_OUT))


def main():
    """Write the zip and say its size; the exit status."""
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "metadata.txt", encoding="utf-8")
    target = ROOT / "dist" / f"earthprint-{metadata['general']['version']}.zip"
    target.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in files():
            entry = zipfile.ZipInfo("earthprint/" + name, (2026, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, (ROOT / name).read_bytes())
    size = target.stat().st_size
    sys.stdout.write(f"{target.relative_to(ROOT)}: {size / 1e6:.2f} MB\n")
    if size > LIMIT:
        sys.stderr.write(f"The zip is larger than {LIMIT / 1e6:.0f} MB.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
