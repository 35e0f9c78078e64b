"""A plain web application, which knows nothing of Lambda: what an image with a web adapter has as its command."""

import http.server
import os
import time


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/crash":
            os._exit(7)
        if self.path == "/slow":
            time.sleep(60)
        self.answer(200, f"{self.command} {self.path} by {os.getpid()}".encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(201, body[::-1])

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("X-Made-By", "webapp")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


print("webapp starts", flush=True)
time.sleep(0.2)  # it takes a while until it listens, as real ones do
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Pages).serve_forever()
