"""A hub on this machine: it speaks the protocol of huggingface.co, and breaks off when asked to."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.http_servers import listening

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of-the-tests"


@dataclass
class Repository:
    files: dict[str, bytes]
    commit: str = COMMIT
    refused: tuple[int, str] | None = None
    #: What is served in place of a file.
    instead: dict[str, bytes] = field(default_factory=dict)


@dataclass
class HubServer:
    """What is published, what was asked for, and what goes wrong."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    #: Method, path and Range of each request, those to the store of contents as well.
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    #: Signs (Authorization) that the store of contents was sent.
    signed: list[str] = field(default_factory=list)
    #: Bytes after which each of the next contents breaks off.
    breaks: list[int] = field(default_factory=list)
    address: str = ""
    store: str = ""

    def publish(self, name: str, files: dict[str, bytes], **more: Any) -> Repository:
        self.repositories[name] = Repository(files, **more)
        return self.repositories[name]

    def ranges(self) -> list[str]:
        return [part for method, path, part in self.asked if path.startswith("/content/")]


def is_large(name: str) -> bool:
    """Tell whether a file lies in the store of contents, as .gitattributes says."""
    return name.endswith((".onnx", ".onnx_data"))


def git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def _json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range", "")))
        if path.startswith("/content/"):
            self._content(path)
        elif path.startswith("/api/models/"):
            name, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            self._about(name, revision or "main")
        elif path.startswith("/api/datasets/"):
            owner, own, *place = path.removeprefix("/api/datasets/").split("/", 3)
            if place[:1] == ["tree"]:
                self._tree(f"{owner}/{own}", place[1])
            else:
                self._about(f"{owner}/{own}", place[1] if place else "main")
        else:
            name, _, rest = path.removeprefix("/datasets").strip("/").partition("/resolve/")
            revision, _, file = rest.partition("/")
            self._file(name, revision, file)

    def _found(self, name: str, revision: str, *, file: bool) -> Repository | None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", repository.commit):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif file and repository.refused:
            status, code = repository.refused
            self._send(status, b"", {"X-Error-Code": code})
        else:
            return repository
        return None

    def _about(self, name: str, revision: str) -> None:
        repository = self._found(name, revision, file=False)
        if repository is None:
            return
        siblings = []
        for file, content in repository.files.items():
            size = {"size": len(content)}
            about: dict[str, Any] = {"rfilename": file, "blobId": git_digest(content), **size}
            if is_large(file):
                digest = hashlib.sha256(content).hexdigest()
                about["lfs"] = {"sha256": digest, "pointerSize": 130, **size}
            siblings.append(about)
        self._json({"id": name, "sha": repository.commit, "siblings": siblings})

    def _tree(self, name: str, place: str) -> None:
        """List a folder of a data set, ``place`` being its revision and path."""
        revision, _, folder = place.partition("/")
        repository = self._found(name, revision, file=False)
        if repository is None:
            return
        listed: dict[str, dict[str, Any]] = {}
        for path, content in repository.files.items():
            if folder and not path.startswith(f"{folder}/"):
                continue
            head, _, inner = path.removeprefix(f"{folder}/" if folder else "").partition("/")
            own = f"{folder}/{head}" if folder else head
            kind = {"type": "directory"} if inner else {"type": "file", "size": len(content)}
            listed[own] = {**kind, "path": own, "oid": git_digest(content)}
        self._json(list(listed.values()))

    def _file(self, name: str, revision: str, file: str) -> None:
        repository = self._found(name, revision, file=True)
        if repository is None:
            return
        commit = {"X-Repo-Commit": repository.commit}
        content = repository.files.get(file)
        if content is None:
            self._send(404, b"", {**commit, "X-Error-Code": "EntryNotFound"})
        elif is_large(file):
            digest = hashlib.sha256(content).hexdigest()
            linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
            where = f"{self.hub.store}/content/{name}/{file}"
            self._send(302, b"", {**commit, **linked, "Location": where})
        else:
            self._send(200, content, {**commit, "ETag": f'"{git_digest(content)}"'})

    def _content(self, path: str) -> None:
        self.hub.signed.append(self.headers.get("Authorization", ""))
        owner, name, file = path.removeprefix("/content/").split("/", 2)
        repository = self.hub.repositories[f"{owner}/{name}"]
        content = repository.instead.get(file, repository.files[file])
        start = 0
        given = self.headers.get("Range")
        if given:
            start = int(given.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        rest = content[start:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if self.hub.breaks:
            self.wfile.write(rest[: self.hub.breaks.pop(0)])
            self.close_connection = True
        else:
            self.wfile.write(rest)

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = _answer  # noqa: N815  as they must be


@contextmanager
def serving() -> Iterator[HubServer]:
    """Run a hub at one address, and its store of contents at another."""
    hub = HubServer()
    with listening(_Handler, hub=hub) as hub.address, listening(_Handler, hub=hub) as hub.store:
        yield hub
