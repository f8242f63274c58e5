"""Show a camera on a page: JPEG frames from standard input, as bytes through the gateway.

Usage: GATEWAY_ALLOWED_ORIGINS='["http://127.0.0.1:8100"]' gateway serve
       ffmpeg -loglevel error -re -f lavfi -i testsrc=rate=30 -f mjpeg - | python ops/camera.py
then open http://127.0.0.1:8100. For a real camera: ffmpeg -f v4l2 -i /dev/video0 -r 30 -f mjpeg -
"""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BufferedReader

from neurograph_publisher import Publisher


START, END = b"\xff\xd8\xff", b"\xff\xd9"

PAGE = b"""<!doctype html><title>Camera</title><img id="camera" alt="waiting for frames"><script>
const socket = new WebSocket("ws://127.0.0.1:8000/ws");
socket.binaryType = "arraybuffer";
socket.onopen = () =>
  socket.send(JSON.stringify({ type: "subscribe", channels: ["camera"], last: 1, rate: 30, binary: true }));
socket.onmessage = ({ data }) => {
  if (typeof data === "string") return console.log(data);
  const header = new DataView(data).getUint32(0);
  const image = document.getElementById("camera");
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(new Blob([new Uint8Array(data, 4 + header)], { type: "image/jpeg" }));
};
</script>"""


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(PAGE)


def frames(stream: BufferedReader) -> Iterator[bytes]:
    """Yield the JPEG images of a stream, which has one behind the other."""
    buffer = b""
    while chunk := stream.read1(65536):
        buffer += chunk
        while True:
            start = max(buffer.find(START), 0)
            end = buffer.find(END, start)
            if end < 0:
                break
            yield buffer[start : end + len(END)]
            buffer = buffer[end + len(END) :]


def main() -> None:
    server = HTTPServer(("127.0.0.1", 8100), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with Publisher("tcp://127.0.0.1:5556") as publisher:
        for frame in frames(open(0, "rb")):  # noqa: SIM115
            publisher.publish_bytes("camera", frame, "image/jpeg")


if __name__ == "__main__":
    main()
