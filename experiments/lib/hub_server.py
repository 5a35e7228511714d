"""A stand-in for the Hugging Face hub: the part of its HTTP by which models are fetched and uploaded."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """What the hub holds and was asked for."""

    url: str = ""
    commits: dict[str, list[tuple[str, dict[str, bytes]]]] = field(default_factory=dict)
    """Repository -> its commits, each with the hash and all files."""
    private: set[str] = field(default_factory=set)
    large: dict[str, bytes] = field(default_factory=dict)
    """Files that were uploaded beside a commit, by SHA-256."""
    fetched: list[str] = field(default_factory=list)
    """Names of files whose contents were asked for."""
    requests: list[str] = field(default_factory=list)
    broken: bool = False
    """Answer everything with status 500."""

    def commit(self, repository: str, files: dict[str, bytes]) -> str:
        history = self.commits.setdefault(repository, [])
        number = hashlib.sha1(f"{repository} {len(history)}".encode()).hexdigest()
        history.append((number, files))
        return number

    def find(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        return next((c for c in reversed(self.commits[repository]) if revision in ("main", c[0])), None)


def is_large(name: str) -> bool:
    """As the hub's .gitattributes say."""
    return name.endswith((".safetensors", ".bin"))


class Handler(BaseHTTPRequestHandler):
    """Answers as huggingface.co does."""

    hub: Hub

    def answer(self, status: int, content: bytes | dict[str, Any] | list[Any] = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, code: str) -> None:
        self.answer(404, X_Error_Code=code, X_Error_Message=code)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        path = unquote(urlsplit(self.path).path)
        if self.hub.broken:
            self.answer(500)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.send_file(*match.groups())
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            self.describe(match[1], match[2], match[3] or "main")
        else:
            self.refuse("EntryNotFound")

    do_HEAD = do_GET  # noqa: N815  # the name that http.server calls

    def send_file(self, repository: str, revision: str, name: str) -> None:
        found = self.hub.find(repository, revision) if repository in self.hub.commits else None
        if found is None or name not in found[1]:
            missing = "RepoNotFound" if repository not in self.hub.commits else "RevisionNotFound"
            self.refuse(missing if found is None else "EntryNotFound")
            return
        if self.command == "GET":
            self.hub.fetched.append(name)
        content, digest = found[1][name], hashlib.sha256 if is_large(name) else hashlib.sha1
        self.answer(200, content, ETag=f'"{digest(content).hexdigest()}"', X_Repo_Commit=found[0])

    def describe(self, repository: str, kind: str, revision: str) -> None:
        if repository not in self.hub.commits:
            self.refuse("RepoNotFound")
            return
        found = self.hub.find(repository, revision)
        if found is None:
            self.refuse("RevisionNotFound")
        elif kind == "tree":
            self.answer(200, [self.list_file(name, content) for name, content in found[1].items()])
        else:
            siblings = [{"rfilename": name} for name in found[1]]
            self.answer(200, {"id": repository, "modelId": repository, "sha": found[0], "siblings": siblings})

    def list_file(self, name: str, content: bytes) -> dict[str, Any]:
        listed = {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        large = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 127}
        return listed | ({"lfs": large} if is_large(name) else {})

    def read(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_PUT(self) -> None:
        self.hub.large[self.path.rpartition("/")[2]] = self.read()
        self.answer(200)

    def do_POST(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        path, body = unquote(urlsplit(self.path).path), self.read()
        if self.hub.broken:
            self.answer(500)
        elif self.headers.get("Authorization") != "Bearer hf_known" and path != "/api/validate-yaml":
            self.answer(401, X_Error_Message="Invalid credentials in Authorization header")
        elif path == "/api/repos/create":
            self.create(json.loads(body))
        elif path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in path:
            names = [each["path"] for each in json.loads(body)["files"]]
            modes = {name: "lfs" if is_large(name) else "regular" for name in names}
            files = [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes.items()]
            self.answer(200, {"files": files})
        elif path.endswith(".git/info/lfs/objects/batch"):
            asked = [(each["oid"], each["size"]) for each in json.loads(body)["objects"]]
            places = [{"upload": {"href": f"{self.hub.url}/lfs/{oid}"}} for oid, _ in asked]
            objects = [{"oid": oid, "size": size, "actions": to} for (oid, size), to in zip(asked, places, strict=True)]
            self.answer(200, {"transfer": "basic", "objects": objects})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            self.take_commit(match[1], [json.loads(line) for line in body.splitlines()])
        else:
            self.refuse("EntryNotFound")

    def create(self, wanted: dict[str, Any]) -> None:
        repository = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        if repository in self.hub.commits:
            self.answer(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{repository}"})
            return
        if wanted.get("private") or wanted.get("visibility") == "private":
            self.hub.private.add(repository)
        self.hub.commit(repository, {".gitattributes": b"*.safetensors filter=lfs\n"})
        self.answer(200, {"url": f"{self.hub.url}/{repository}", "name": repository})

    def take_commit(self, repository: str, lines: list[dict[str, Any]]) -> None:
        files = dict(self.hub.commits[repository][-1][1])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        number = self.hub.commit(repository, files)
        self.answer(200, {"commitUrl": f"{self.hub.url}/{repository}/commit/{number}", "commitOid": number})


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Serve an empty hub on a free port of this machine."""
    hub = Hub()
    with ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub})) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
