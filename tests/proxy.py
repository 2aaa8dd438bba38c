"""A real nginx in front of the service, with a configuration of the test's."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

HTTP = """
error_log stderr;
pid {folder}/nginx.pid;
daemon off;
worker_processes 1;
user root;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{alive}; return 200; }}
  {servers}
}}
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def nginx(folder: Path, servers: str) -> Iterator[None]:
    """Run nginx with these ``server`` blocks until the end; it serves when this returns."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    assert program is not None, "no nginx: install Debian's package nginx-light"
    folder.mkdir(parents=True, exist_ok=True)
    alive = free_port()
    settings = folder / "nginx.conf"
    settings.write_text(HTTP.format(folder=folder, servers=servers, alive=alive))
    process = subprocess.Popen([program, "-c", str(settings)], stderr=subprocess.PIPE, text=True)
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:
            assert client.get(f"http://127.0.0.1:{alive}/").status_code == 200, process.stderr
        yield
    finally:
        process.terminate()
        process.communicate(timeout=20)
