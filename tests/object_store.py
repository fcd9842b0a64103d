"""An S3-compatible store on this machine, and what goes wrong between it and a command.

Behind is moto's server; before it a proxy of ours, which makes the trouble, and puts requests to
Google's store into S3's words.
"""

import http.client
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote

from tests.http_servers import listening

#: What requests are signed with; none of it may ever be shown.
KEY_ID: Final = "AKIDOFTHETESTS"
SECRET: Final = "secret/of+the/tests"
SESSION: Final = "session-token-of-the-tests"
#: A bucket that is there.
BUCKET: Final = "photos"

# The store looks whether a request is signed, not with what.
_SIGNED: Final = (
    f"AWS4-HMAC-SHA256 Credential={KEY_ID}/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
)
_SERVE: Final = """
import sys
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""

Trouble = Literal["busy", "expired", "denied", "unknown", "cut", "kept back"]
_ANSWERS: Final[dict[str, tuple[int, str]]] = {
    "busy": (503, "SlowDown"),
    "expired": (400, "ExpiredToken"),
    "denied": (403, "AccessDenied"),
    "unknown": (403, "InvalidAccessKeyId"),
}


@dataclass
class Fault:
    """What goes wrong with some requests: ``spare`` pass, then ``times`` are harmed.

    ``cut`` sends half a content, ``kept back`` nothing until released.
    """

    trouble: Trouble
    method: str = "GET"
    part: str = ""
    spare: int = 0
    times: int = 1_000_000


@dataclass
class ObjectStore:
    """A store: what was asked of it, and what goes wrong."""

    port: int
    address: str = ""
    faults: list[Fault] = field(default_factory=list)
    #: Method and path, with its query, of each request.
    asked: list[tuple[str, str]] = field(default_factory=list)
    #: That a content is kept back, and that it may go on.
    waiting: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    #: Google's number of each version that was shown, and its ETag.
    generations: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def client(self) -> Any:
        """A client that no fault stands before."""
        from botocore.session import get_session

        return get_session().create_client(
            "s3", region_name="us-east-1", endpoint_url=f"http://127.0.0.1:{self.port}"
        )

    def upload(self, folder: Path, prefix: str, bucket: str = BUCKET) -> None:
        client = self.client
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                key = f"{prefix}/{file.relative_to(folder).as_posix()}"
                client.put_object(Bucket=bucket, Key=key, Body=file.read_bytes())

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def content(self, key: str) -> bytes:
        content = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        assert isinstance(content, bytes)
        return content

    def keys(self, prefix: str = "") -> list[str]:
        page = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [each["Key"] for each in page.get("Contents", ())]

    def empty(self) -> None:
        keys = [{"Key": key} for key in self.keys()]
        if keys:
            self.client.delete_objects(Bucket=BUCKET, Delete={"Objects": keys})
        self.client.delete_bucket(Bucket=BUCKET)

    def fetched(self, part: str) -> list[str]:
        """Return the keys of the contents that were asked for, whose path holds ``part``."""
        paths = [path for method, path in self.asked if method == "GET" and part in path]
        return [path.removeprefix(f"/{BUCKET}/") for path in paths if "list-type" not in path]

    def fault_of(self, method: str, path: str) -> Fault | None:
        with self.lock:
            self.asked.append((method, path))
            for fault in self.faults:
                if fault.method == method and fault.part in path and fault.times:
                    if fault.spare:
                        fault.spare -= 1
                    else:
                        fault.times -= 1
                        return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: ObjectStore

    def _pass_on(self) -> None:
        body = self._body()
        fault = self.store.fault_of(self.command, unquote(self.path))
        if fault is not None and fault.trouble in _ANSWERS:
            status, code = _ANSWERS[fault.trouble]
            said = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{SECRET}</Message>"
            said = "" if self.command == "HEAD" else f"{said}</Error>"
            self._answer(status, {"Content-Type": "application/xml"}, said.encode())
            return
        behind = http.client.HTTPConnection("127.0.0.1", self.store.port, timeout=60)
        headers = {name: text for name, text in self.headers.items() if name != "Expect"}
        headers.pop("Transfer-Encoding", None)
        google = headers.get("authorization", "").startswith("Bearer")
        if google:
            headers = self._as_s3(headers)
        behind.request(self.command, self.path, body, headers)
        answer = behind.getresponse()
        content = answer.read()
        told = {name: text for name, text in answer.getheaders() if name not in ("Date", "Server")}
        if google:
            told = self._as_google(told)
        if fault is not None and fault.trouble == "kept back":
            self.store.waiting.set()
            self.store.released.wait(60)
        cut = fault is not None and fault.trouble == "cut"
        self._answer(answer.status, told, content, cut=cut)

    def _as_s3(self, headers: dict[str, str]) -> dict[str, str]:
        assert headers["authorization"] == f"Bearer {SESSION}"
        headers["authorization"] = _SIGNED
        generation = headers.pop("x-goog-if-generation-match", None)
        if generation == "0":
            headers["If-None-Match"] = "*"
        elif generation is not None:
            headers["If-Match"] = self.store.generations[generation]
        return {name.replace("x-goog-", "x-amz-"): text for name, text in headers.items()}

    def _as_google(self, headers: dict[str, str]) -> dict[str, str]:
        headers = {name.replace("x-amz-", "x-goog-"): text for name, text in headers.items()}
        tag = {name.lower(): text for name, text in headers.items()}.get("etag")
        if tag is not None:
            number = str(int(tag.strip('"')[:15], 16))
            self.store.generations[number] = tag
            headers["x-goog-generation"] = number
        return headers

    def _body(self) -> bytes:
        if self.headers.get("Expect"):
            self.send_response_only(100)
            self.end_headers()
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(
        self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False
    ) -> None:
        headers.pop("Transfer-Encoding", None)
        if self.command != "HEAD":
            headers["Content-Length"] = str(len(content))
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.end_headers()
        self.close_connection |= cut
        try:
            self.wfile.write(content[: len(content) // 2] if cut else content)
        except OSError:
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815  as they must be


@contextmanager
def running() -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@contextmanager
def troubled(port: int) -> Iterator[ObjectStore]:
    store = ObjectStore(port)
    with listening(_Handler, store=store) as store.address:
        try:
            yield store
        finally:
            store.released.set()
