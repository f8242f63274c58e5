#!/usr/bin/env bash
# Run a release up to the upload: build all artefacts, install them into empty environments, and use them there as
# docs/install.md and the READMEs describe.
set -euo pipefail
cd "$(dirname "$0")/.."
root="$PWD"
folder="$(mktemp -d)"
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1
unset PYTHONPATH

say() { echo "== $1 ($SECONDS s)"; }
environment() { # name, what pip is to install …
    "$root/.venv/bin/python" -m venv "$folder/$1"
    "$folder/$1/bin/pip" install "${@:2}"
}
first() { sed -n "s/$1/\\1/p" "$2" | head -1; }

say "build the artefacts"
.venv/bin/python -m ops.dist
cp -R dist "$folder/release"
cd "$folder/release"

say "the gateway, from one folder with all wheels and without an index"
"$root/.venv/bin/python" -m pip download --require-hashes --requirement "$root/requirements.lock" --dest .
sha256sum --check --quiet SHA256SUMS
environment gateway --no-index --find-links . neurograph-gateway

say "the client and the publisher, each alone"
environment client ./neurograph_client-*.whl
environment publisher ./neurograph_publisher-*.whl
for each in client publisher; do
    [ -z "$("$folder/$each/bin/pip" list --format=freeze | grep -i neurograph-gateway)" ]
done

say "the gateway in one folder, for hosts without pip"
"$folder/gateway/bin/pip" install --no-index --find-links . --target "$folder/one/neurograph" neurograph-gateway
for command in tail publish serve; do
    (cd "$folder/one" && PYTHONPATH=neurograph "$root/.venv/bin/python" -S -m gateway "$command" --help >/dev/null)
done

say "together, in an empty folder"
mkdir "$folder/empty"
cd "$folder/empty"
bus="ipc://$folder/bus"
"$folder/gateway/bin/gateway" serve --port 0 --connect "ipc://$folder/none" --bind "$bus" 2>log &
for _ in $(seq 600); do grep -q '"listening"' log && break || sleep 0.1; done
url="$(first '.*"url": "\([^"]*\)".*' log)"
"$folder/publisher/bin/neurograph-system-metrics" --count 1 --connect "$bus"
"$folder/client/bin/python" -I -c "
from neurograph_client import connect
print('python: CPU', next(iter(connect('$url').events('metrics', last=1))).data['cpu_percent'], '%')"
curl -sf "$url" | grep -q '<title>' && echo "dashboard: $url"
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund --offline "$folder"/release/neurograph-client-*.tgz
cat >main.mjs <<'JS'
import { Client } from "neurograph-client";
const client = new Client(process.argv[2]);
client.subscribe("metrics", (event) => {
  console.log("typescript: CPU", event.data.cpu_percent, "%");
  client.disconnect();
}, { last: 1 });
await client.connect();
JS
node --experimental-websocket --no-warnings main.mjs "$url"
kill %1
wait %1

say "the examples of the documents"
cd "$root"
TEST_BIN="$folder/gateway/bin" .venv/bin/pytest -q tests/test_code_blocks.py

say "from the checkout, as docs/install.md says"
HOME="$folder/home"
"$root/.venv/bin/python" -m venv ~/neurograph
~/neurograph/bin/pip install .
for command in tail status publish serve doctor; do ~/neurograph/bin/gateway "$command" --help >/dev/null; done
say "ready to be uploaded: dist/"
