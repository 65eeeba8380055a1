"""Any algorithm of the plugin from a shell: ``process.py ALGORITHM KEY=VALUE ...``.

Without values it prints the algorithm's help, without an algorithm the list of them.
"""

import os
import shutil
import subprocess
import sys

# Debian's wrapper of 3.22 adds an option that the program itself refuses
PROGRAM = shutil.which("qgis_process.bin") or shutil.which("qgis_process")


def main(words):
    """Run qgis_process with the words of the command line; its exit status."""
    if not words:
        listed = subprocess.run([PROGRAM, "list"], capture_output=True, text=True, check=True)
        lines = listed.stdout.splitlines()
        start = next((i for i, line in enumerate(lines) if line.strip() == "Earthprint"), None)
        if start is None:
            sys.stderr.write("QGIS did not load the plugin:\n" + listed.stderr)
            return 1
        own = [line.strip() for line in lines[start + 1:] if line.startswith("\tearthprint:")]
        sys.stdout.write("\n".join(own).replace("earthprint:", "") + "\n")
        return 0
    algorithm, values = words[0], words[1:]
    if not algorithm.endswith(".model3"):
        algorithm = "earthprint:" + algorithm
    action = ["run", algorithm, "--", *values] if values else ["help", algorithm]
    sys.stdout.flush()
    os.execv(PROGRAM, [PROGRAM, *action])  # noqa: S606


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
