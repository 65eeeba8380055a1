#!/bin/sh
# QGIS 3.40 and what the environments need, on Debian 12; asks nothing.
set -eu

packages="python3-venv python3-pip xvfb xauth fonts-open-sans"
as_root=
if [ "$(id -u)" -ne 0 ]; then
    as_root=sudo
    if ! sudo -n true 2>/dev/null; then
        echo "QGIS is missing and installing it needs root. As root: sh $(pwd)/tools/install_qgis.sh" >&2
        exit 1
    fi
fi

get() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 "$@" >>"$log" 2>&1; }

log=$(mktemp)
trap 'status=$?; [ $status -eq 0 ] || tail -n 20 "$log" >&2; rm -f "$log"' EXIT
echo "Installing QGIS (about two minutes, 0.5 GB to download, 2.4 GB on disk)"
get update
if ! command -v qgis_process >/dev/null 2>&1; then
    suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    backports=
    if [ "$suite" = bookworm ]; then
        # the mirror that is configured already also has the backports, with a newer QGIS
        mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $suite" | sort -u | head -n 1)
        if ! apt-get indextargets --format '$(CODENAME)' 'Created-By: Packages' | grep -q "^$suite-backports$"; then
            echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite-backports main" |
                $as_root tee /etc/apt/sources.list.d/earthprint-backports.list >/dev/null
            get update
        fi
        backports="-t $suite-backports"
    fi
    get install -y --no-install-recommends $backports qgis python3-qgis
fi
get install -y --no-install-recommends $packages
