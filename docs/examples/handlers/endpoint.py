"""An HTTP endpoint that runs tasks: counts words. Standard library alone.

    python3 endpoint.py [PORT]      # 8099; 0: any that is free, which it prints
"""
import http.server, json, sys


class Endpoint(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are used again

    def do_POST(self):
        # Read it all, whatever is answered: the next request comes on the same connection.
        payload = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != "Bearer example":
            return self.answer(401, b"who are you?")  # 4xx: not retried
        if payload == b"busy" and self.headers["X-Task-Failures"] == "0":
            return self.answer(503, b"busy", {"Retry-After": "1"})  # retried, a second later at least
        try:
            words = payload.decode().split()
        except UnicodeDecodeError as error:
            return self.answer(422, f"no text: {error}".encode())
        result = {"words": len(words), "task": self.headers["Idempotency-Key"]}
        self.answer(200, json.dumps(result).encode(), {"Content-Type": "application/json"})

    def answer(self, status, body, headers={}):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8099
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Endpoint)
    print(f"listening on port {server.server_port}", flush=True)
    server.serve_forever()
