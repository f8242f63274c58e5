#!/usr/bin/env bash
# Install the profiler, and the peers that can be installed without root: get.sh FOLDER
set -euo pipefail
folder="$1"
mkdir -p "$folder"
if [ ! -d "$folder/venv" ]; then
    "${PYTHON:-python3}" -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet fastapi==0.165.0 uvicorn==0.54.0 uvloop websockets httptools pyzmq py-spy ||
        { rm -rf "$folder/venv"; echo "The Python packages could not be installed." >&2; }
fi
if [ ! -d "$folder/node" ] && command -v npm >/dev/null; then
    mkdir -p "$folder/node"
    npm install --silent --no-fund --no-audit --prefix "$folder/node" ws@8 zeromq@6 @btc-vision/uwebsockets.js@20.57.0 ||
        { rm -rf "$folder/node"; echo "The packages for Node.js could not be installed." >&2; }
fi
