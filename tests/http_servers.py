"""HTTP servers on this machine, each for as long as a test asks it."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Server(ThreadingHTTPServer):
    daemon_threads, block_on_close = True, False  # connections may be kept open

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over clients that are gone: they are what the tests are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler], **attributes: Any) -> Iterator[str]:
    """Serve by a handler that has these attributes; yields the address."""
    attributes["log_message"] = lambda *_: None
    server = _Server(("127.0.0.1", 0), type("_Quiet", (handler,), attributes))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
