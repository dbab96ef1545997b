"""requests is imported when a reference to another host is followed, and follows it as before."""

import subprocess
import sys

PROGRAM = """
import sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
import jsonref

class Document(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"a": 1}')

server = HTTPServer(("127.0.0.1", 0), Document)
threading.Thread(target=server.serve_forever, daemon=True).start()

print(jsonref.replace_refs({"a": {"$ref": "#/b"}, "b": 2})["a"], "requests" in sys.modules)
remote = {"a": {"$ref": f"http://127.0.0.1:{server.server_port}/#/a"}}
print(jsonref.replace_refs(remote, proxies=False)["a"], "requests" in sys.modules)
"""


def test_requests_is_imported_for_a_document_of_another_host() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["2 False", "1 True"]
