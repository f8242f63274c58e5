"""Show a camera on a page: publish JPEG images from ffmpeg as bytes to a gateway that allows the page's origin.

`make camera` starts this with a gateway. `--input` is what ffmpeg is given, for example `-f v4l2 -i /dev/video0` for a
real camera; with `--input -` the images are read from standard input, one after the other.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

from neurograph_publisher import Publisher

from gateway.config import Config


START, END = b"\xff\xd8\xff", b"\xff\xd9"
FRAME_BYTES_MAX = 8 * 1024 * 1024
TEST_PICTURE = "-re -f lavfi -i testsrc=size=640x480:rate=30"

PAGE = """<!doctype html><meta charset="utf-8"><title>Camera</title>
<canvas id="camera"></canvas><p><output id="shown">0</output> frames per second</p><script>
const socket = new WebSocket(GATEWAY);
const camera = document.getElementById("camera");
let shown = 0;
setInterval(() => {
  document.getElementById("shown").value = shown;
  shown = 0;
}, 1000);
socket.binaryType = "arraybuffer";
socket.onopen = () =>
  socket.send(JSON.stringify({ type: "subscribe", channels: ["camera"], last: 1, rate: 60, binary: true }));
socket.onmessage = async ({ data }) => {
  if (typeof data === "string") return console.log(data);
  const header = new DataView(data).getUint32(0);
  const image = await createImageBitmap(new Blob([new Uint8Array(data, 4 + header)], { type: "image/jpeg" }));
  if (camera.width !== image.width) camera.width = image.width;
  if (camera.height !== image.height) camera.height = image.height;
  camera.getContext("2d").drawImage(image, 0, 0);
  image.close();
  shown += 1;
};
</script>"""


def serve_page(port: int, gateway: str) -> HTTPServer:
    """Serve the page, which connects to a gateway's WebSocket address."""
    page = PAGE.replace("GATEWAY", json.dumps(gateway)).encode()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    server = HTTPServer(("127.0.0.1", port), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def frames(descriptor: int) -> Iterator[bytes]:
    """Yield the JPEG images of a stream.

    Raises ValueError: The stream is not JPEG, or an image is larger than `FRAME_BYTES_MAX`."""
    buffer = b""
    while chunk := os.read(descriptor, 65536):
        buffer += chunk
        while (end := buffer.find(END)) >= 0:
            image, buffer = buffer[: end + len(END)], buffer[end + len(END) :]
            if not image.startswith(START):
                raise ValueError("the input is not JPEG: let ffmpeg write it with `-f mjpeg -`")
            yield image
        if len(buffer) > FRAME_BYTES_MAX:
            raise ValueError(f"{FRAME_BYTES_MAX} bytes came without the end of a JPEG image")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8100, help="the page's port")
    parser.add_argument("--gateway", default="ws://127.0.0.1:8000/ws", help="the gateway's address, for the page")
    parser.add_argument("--bus", default=Config().bind, help="where publishers connect")
    parser.add_argument("--input", default=TEST_PICTURE, help=f"ffmpeg's input (default: {TEST_PICTURE})")
    arguments = parser.parse_args()
    server = serve_page(arguments.port, arguments.gateway)
    print(f"  Camera           http://127.0.0.1:{server.server_address[1]}/", flush=True)
    if arguments.input == "-":
        publish(sys.stdin.fileno(), arguments.bus)
        return 0
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", *shlex.split(arguments.input), "-f", "mjpeg", "-"]
    receiving, sending = os.pipe()
    try:
        ffmpeg = subprocess.Popen(command, stdout=sending)
    except FileNotFoundError:
        print("ffmpeg is not installed; install it, or give JPEG images to --input -", file=sys.stderr)
        return 1
    os.close(sending)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that ffmpeg is stopped, too
    try:
        publish(receiving, arguments.bus)
    finally:
        ffmpeg.terminate()
        os.close(receiving)  # otherwise ffmpeg would block for ever in a write that nobody reads
        status = ffmpeg.wait()
    return status


def publish(descriptor: int, bus: str) -> None:
    with Publisher(bus) as publisher:
        for frame in frames(descriptor):
            publisher.publish_bytes("camera", frame, "image/jpeg")


if __name__ == "__main__":
    sys.exit(main())
