"""Pages of other origins, in a real browser: another port of the same host, and a sibling domain over TLS."""

from __future__ import annotations

import datetime
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from playwright.sync_api import Browser, Page

from poller.web.passwords import hashed
from store import queries, users
from tests.acceptance.web_world import ALL, Served, served
from tests.proxy import free_port, nginx

pytestmark = pytest.mark.console

PASSWORD = "correct horse battery"

ATTACK = """<!doctype html>
<script>{script}</script>
<form id="f" method="post" action="{target}/console/customers/{kept}/merge">
<input name="csrf_token" value="{proof}"><input name="other" value="{other}"><input name="etag" value="*">
</form>
<script>document.getElementById("f").submit()</script>"""


class OnePage(BaseHTTPRequestHandler):
    """Answers every request with one page."""

    text = ""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.text.encode())

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def site(text: str, tls: Path | None = None) -> Iterator[int]:
    """Serve a page on a port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Site", (OnePage,), {"text": text}))
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate for all hosts of shop.test, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shop.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("*.shop.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "certificate.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


def two_customers(place: Served) -> tuple[int, int]:
    with place.store.read() as tx:
        first, second = queries.list_customers(tx, limit=2)
    return first.customer_id, second.customer_id


def is_merged(place: Served, customer_id: int) -> bool:
    with place.store.read() as tx:
        return any(
            record.customer_id == customer_id and record.merged_into is not None
            for record in queries.list_customers(tx, limit=50)
        )


def sign_in(page: Page, url: str) -> None:
    page.goto(f"{url}/console/sign-in")
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("navigation", name="Pages").wait_for()


def add_ann(place: Served) -> None:
    kept = hashed(PASSWORD)
    place.store.commit(lambda tx: users.add(tx, "ann", kept, ALL))


@pytest.mark.parametrize(
    "script",
    [
        "",
        """document.cookie = 'order_sync_session={"; path=/'""",
        "document.cookie = 'order_sync_session=' + 'x'.repeat(43) + '; path=/console'",
        "document.cookie = 'order_sync_form=' + 'x'.repeat(32) + '; path=/console'",
    ],
)
def test_a_page_on_another_port_changes_nothing(browser: Browser, tmp_path: Path, script: str) -> None:
    with served(tmp_path) as place:
        add_ann(place)
        kept, other = two_customers(place)
        own = place.store.lookup.fingerprint("form\0" + "x" * 43)  # what only the service can make
        text = ATTACK.format(script=script, target=place.url, kept=kept, other=other, proof=own)
        with site(text) as port:
            context = browser.new_context()
            page = context.new_page()
            sign_in(page, place.url)
            page.goto(f"http://127.0.0.1:{port}/")
            page.wait_for_url(f"{place.url}/**")
            assert "A page of another site sent this request" in page.content()
            context.close()
        assert not is_merged(place, other)


def test_a_sibling_domain_changes_nothing_and_cannot_put_a_session_in_place_of_ours(
    browser: Browser, tmp_path: Path, certificate: Path
) -> None:
    port = free_port()
    url = f"https://orders.shop.test:{port}"
    with served(tmp_path, ORDER_SYNC_PUBLIC_URL=url) as place:
        add_ann(place)
        kept, other = two_customers(place)
        lines = f"""server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {certificate};
            ssl_certificate_key {certificate}; location / {{ proxy_pass {place.url}; }} }}"""
        script = """for (const name of ["order_sync_session", "__Host-order_sync_session"])
            document.cookie = name + "=" + "x".repeat(43) + "; domain=shop.test; path=/; secure";"""
        text = ATTACK.format(script=script, target=url, kept=kept, other=other, proof="x")
        with nginx(tmp_path / "nginx", lines), site(text, certificate) as sibling:
            context = browser.new_context(ignore_https_errors=True)
            page = context.new_page()
            sign_in(page, url)
            page.goto(f"https://evil.shop.test:{sibling}/")
            page.wait_for_url(f"{url}/**")
            assert "A page of another site sent this request" in page.content()
            page.goto(f"{url}/console/customers")
            assert page.url == f"{url}/console/customers", "she is signed in as before"
            names = {c["name"]: c for c in context.cookies(url)}
            session = names["__Host-order_sync_session"]
            assert (session["secure"], session["httpOnly"], session["path"]) == (True, True, "/")
            assert session["value"] != "x" * 43
            context.close()
        assert not is_merged(place, other)
