"""A stand-in for the Hugging Face Hub on loopback: the few addresses that its client calls, over files in memory."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class StandInHub:
    """Serves `repositories` {name: {file: bytes}}, each at revisions "main", "v1" and COMMIT.

    Attributes:
        requests: "METHOD path" of everything asked for.
        refuse: {repository: (status, error code)} answered instead.
        corrupt: names of files whose bytes arrive changed.
        broken: answer everything with status 503.
        login_page: answer everything with a web page, as networks that want a login do.
    """

    def __init__(self, repositories: Mapping[str, Mapping[str, bytes]]) -> None:
        self.repositories = repositories
        self.requests: list[str] = []
        self.refuse: dict[str, tuple[int, str]] = {}
        self.corrupt: set[str] = set()
        self.broken = False
        self.login_page = False
        self.endpoint = ""

    @contextmanager
    def running(self) -> Iterator["StandInHub"]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub.answer(self, True)

            def do_HEAD(self):
                hub.answer(self, False)

            def log_message(self, *arguments):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, request: BaseHTTPRequestHandler, with_body: bool) -> None:
        path = unquote(urlsplit(request.path).path)
        self.requests.append(f"{request.command} {path}")
        status, headers, body = self._response(path)
        request.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(key, value)
        request.end_headers()
        if with_body:
            request.wfile.write(body)

    def _response(self, path: str) -> tuple[int, dict[str, str], bytes]:
        parts = path.strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        parts = parts[2:] if is_api else parts
        name, revision = "/".join(parts[:2]), "".join(parts[3:4])
        if self.login_page:
            return 200, {"Content-Type": "text/html"}, b"<html>"
        if self.broken:
            return self._error(503, "")
        if name in self.refuse:
            return self._error(*self.refuse[name])
        if name not in self.repositories:
            return self._error(404, "RepoNotFound")
        if revision and revision not in ("main", "v1", COMMIT):
            return self._error(404, "RevisionNotFound")
        files = self.repositories[name]
        if is_api:
            siblings = [{"rfilename": file} for file in files]
            content = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
            return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()
        return self._file(files, "/".join(parts[4:]))

    def _file(self, files: Mapping[str, bytes], name: str) -> tuple[int, dict[str, str], bytes]:
        if name not in files:
            return self._error(404, "EntryNotFound")
        data = files[name]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{git_hash(data)}"'}
        if name.endswith((".safetensors", ".bin")):  # large files are announced by their SHA-256
            headers |= {"X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Linked-Size": str(len(data))}
        return 200, headers, bytes([data[0] ^ 1]) + data[1:] if name in self.corrupt else data

    @staticmethod
    def _error(status: int, code: str) -> tuple[int, dict[str, str], bytes]:
        return status, {"X-Error-Code": code, "X-Error-Message": code}, b"{}"


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
