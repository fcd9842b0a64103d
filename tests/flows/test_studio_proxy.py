"""A studio below a path of a site with HTTPS, behind Debian's nginx."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from selenium.webdriver.common.by import By

from opsin.data.dataset import Dataset, load
from opsin.studio.datasets.catalogue import Library
from opsin.studio.jobs.queue import Queue
from tests.browser import COOKIES, chromium, needs_chromium
from tests.made_runs import answers_right, write_run
from tests.made_studio import fill_with_digits
from tests.studio_browser import (
    complaints,
    drawn,
    one,
    requests_elsewhere,
    send,
    shown,
    studio,
    until,
)

NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
SITE = "images.example.org"
# As in docs/how-to/share-the-studio.md.
CONFIGURATION = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} ssl;
    server_name {site};
    ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
    location /opsin/ {{
      proxy_pass http://127.0.0.1:{studio};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      client_max_body_size 20m;
      proxy_read_timeout 1h;
    }}
  }}
  map $http_upgrade $connection_upgrade {{ default upgrade; "" close; }}
}}
"""

pytestmark = [
    needs_chromium,
    pytest.mark.skipif(not NGINX or not shutil.which("openssl"), reason="needs nginx and openssl"),
]


@contextlib.contextmanager
def proxy(folder: Path, studio_port: int) -> Iterator[int]:
    """Run nginx with a certificate of its own; return its port."""
    assert NGINX
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    certificate = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem -out cert.pem "
        f"-subj /CN={SITE} -addext subjectAltName=DNS:{SITE}"
    )
    subprocess.run(certificate.split(), check=True, capture_output=True, cwd=folder)
    text = CONFIGURATION.format(folder=folder, port=port, studio=studio_port, site=SITE)
    (folder / "nginx.conf").write_text(text)
    with subprocess.Popen([NGINX, "-p", folder, "-c", folder / "nginx.conf"]) as process:
        try:
            yield port
        finally:
            process.terminate()


def test_from_the_link_to_an_answer_behind_a_proxy(
    tmp_path: Path, digits: Dataset, nearest_mean: Path
) -> None:
    sets = Library(tmp_path / "home", Queue(tmp_path / "home"))
    made = sets.new_empty(digits.classes, title="Digits")
    fill_with_digits(sets, made.id, digits, 60)
    Image.fromarray(digits.images[59][..., 0]).save(tmp_path / "new.png")
    mine = load(*made.sources)
    write_run(tmp_path / "runs", "first", mine, answers_right(mine, 0.8), classifier=nearest_mean)
    words = ["--share", "--sub-path", "/opsin", "--allow-host", SITE]
    rules = f"host-resolver-rules=MAP {SITE} 127.0.0.1"
    with (
        studio(tmp_path, words=words) as running,
        proxy(tmp_path / "nginx", running.port) as port,
        chromium(tmp_path / "browser", "ignore-certificate-errors", rules) as browser,
    ):
        del COOKIES[running.address]
        site = f"https://{SITE}:{port}"
        # The link that the terminal shows, with the site's name; the link works once.
        code = (running.home / "sign-in.html").read_text().partition("token=")[2].partition('"')[0]
        browser.get(f"{site}/opsin/?token={code}")
        until(browser, lambda: "Digits" in shown(browser))
        assert browser.current_url == f"{site}/opsin/"
        ((path, secure),) = ((item["path"], item["secure"]) for item in browser.get_cookies())
        assert (path, secure) == ("/opsin", True)
        # Covers, thumbnails and the addresses of links; an upload, and its answer.
        until(browser, lambda: drawn(browser, least=0))
        one(browser, "a.project-pictures").click()
        until(browser, lambda: f"/opsin/projects/{made.id}/results" in browser.current_url)
        browser.get(f"{site}/opsin/projects/{made.id}/photos")
        until(browser, lambda: drawn(browser, least=6))
        browser.get(f"{site}/opsin/projects/{made.id}/try")
        send(browser, tmp_path / "new.png")
        until(browser, lambda: one(browser, ".headline").text and drawn(browser))
        assert browser.find_elements(By.CSS_SELECTOR, "img.photo")
        assert complaints(browser) == []
        # Sockets of pages, also by WebSocket.
        transport = "return window.socket.io.engine.transport.name"
        assert browser.execute_script(transport) == "websocket"
        sockets = f"wss://{SITE}:{port}/opsin/"
        assert all(asked.startswith(sockets) for asked in requests_elsewhere(browser, site))
        with httpx.Client(base_url=running.address, headers={"host": SITE}) as direct:
            assert direct.get("/opsin/").status_code == 401
            spoofed = {"x-forwarded-prefix": "/evil", "x-forwarded-host": "evil.example"}
            assert "evil" not in direct.get("/opsin/", headers=spoofed).text
            foreign = {"origin": "https://evil.example"}
            assert direct.get("/opsin/", headers=foreign).status_code == 403
