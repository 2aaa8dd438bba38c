"""What a person enters of a customer is shown as it was entered: by commands, API and console."""

from __future__ import annotations

import csv
import html
import io
import json
from pathlib import Path

from tests.acceptance.web_world import ALL, served
from tests.databases import long_on
from tests.unit.test_customer_texts import NAMES

pytestmark = long_on("postgresql")

NAME = " ".join(NAMES.values())


def test_real_names_are_entered_and_shown_everywhere(tmp_path: Path, database_url: str) -> None:
    """Typed, imported and sent; Amazon's own were stored always (review of customers, F3)."""
    with served(tmp_path, database_url) as place:
        shop, client, browser = place.shop, place.client(*ALL), place.browser("ann", *ALL)
        file = tmp_path / "customers.csv"
        file.write_text(f"external_id,name,billing_line1\nI,{NAME},4 {NAME}\n", newline="")
        assert shop("customers", "import", str(file)).messages == ["1 new"]
        typed = shop("customers", "create", "--external-id", "T", "--name", "Ann").out.strip()
        shop("customers", "edit", typed, "--name", NAME, "--billing-line1", f"4 {NAME}")
        body = {"external_id": "A", "name": NAME, "billing": {"line1": f"4 {NAME}"}}
        assert client.post("/customers", json=body).status_code == 201

        objects = [json.loads(line) for line in shop("export", "customers").out.split("\n") if line]
        table = csv.DictReader(io.StringIO(shop("export", "customers", "--format", "csv").out, newline=""))
        rows = {row["external_id"]: row for row in table}
        found = {o["external_id"]: o for o in objects if o["external_id"]}
        assert found.keys() == {"I", "T", "A"}
        for key, customer in found.items():
            assert (customer["name"], customer["billing"]["line1"]) == (NAME, f"4 {NAME}")
            assert (rows[key]["name"], rows[key]["billing.line1"]) == (NAME, f"4 {NAME}")
            number = customer["customer_id"]
            assert NAME in shop("customers", "show", str(number)).out
            assert shop("customers", "show", str(number), "--json").json()["name"] == NAME
            assert client.get(f"/customers/{number}").json()["name"] == NAME
            assert NAME in html.unescape(browser.get(f"/console/customers/{number}").text)


def test_what_no_text_may_hold_is_refused_with_the_reason(tmp_path: Path, database_url: str) -> None:
    with served(tmp_path, database_url) as place:
        refused = place.shop("customers", "create", "--name", "Ann\tInvented", status=2)
        assert refused.messages == ["error: name has a control character (U+0009): remove it."]
        for name, reason in (("Ann\nInvented", "a line break"), ("\x9b", "a control character (U+009B)")):
            answer = place.client(*ALL).post("/customers", json={"name": name})
            assert (answer.status_code, answer.json()["detail"]) == (422, f"name has {reason}: remove it.")
        half = place.client(*ALL).post("/customers", content=b'{"name": "\\ud83d"}')
        assert half.status_code == 422


def test_what_is_no_address_or_country_is_refused_everywhere(tmp_path: Path, database_url: str) -> None:
    """Review of customers, F7 and F9: such a record was contactable, and ``UK`` hid its duplicate."""
    no_address = "is not an e-mail address."
    no_country = "must be a country's code of two letters (ISO 3166), for example GB."
    with served(tmp_path, database_url) as place:
        shop, client = place.shop, place.client(*ALL)
        file = tmp_path / "customers.csv"
        for text in ("mailto:ann@example.com", "a@b@c", ".@.", "ann@example..com", "N/A"):
            answer = client.post("/customers", json={"email_2": text})
            assert (answer.status_code, answer.json()["detail"]) == (422, f"email_2 {no_address}")
        file.write_text("external_id,email_1,billing_country\nC-1,ann@example..com,GB\nC-2,,XX\nC-3,,uk\n")
        assert shop("customers", "import", str(file), status=1).messages == [
            f"line 2: refused: email_1 {no_address}",
            f"line 3: refused: billing_country {no_country}",
            "1 new, 2 refused",
        ]
        refused = shop("customers", "create", "--email-1", "mailto:ann@example.com", status=2)
        assert refused.messages == [f"error: email_1 {no_address}"]
        refused = shop("customers", "create", "--billing-country", "EU", status=2)
        assert refused.messages == [f"error: billing_country {no_country}"]
        typed = shop("customers", "create", "--external-id", "C-4", "--billing-country", "UK").out.strip()
        sent = client.post("/customers", json={"external_id": "C-5", "billing": {"country": "Uk"}}).json()
        for number in (typed, sent["customer_id"]):
            assert client.get(f"/customers/{number}").json()["billing"]["country"] == "GB"


def test_an_exported_file_comes_back_and_edits(tmp_path: Path, database_url: str) -> None:
    """Review of customers, F13. Whatever is unchanged stays as it is, also of Amazon's own records."""
    with served(tmp_path, database_url) as place:
        shop, file = place.shop, tmp_path / "customers.csv"
        shop("customers", "create", "--name", NAME, "--phone", "+44 1632 960777", "--billing-country", "GB")
        text = shop("export", "customers", "--format", "csv").out
        assert ",+44 1632 960777," in text
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        file.write_text(text, newline="")
        left_out, done = shop("customers", "import", str(file)).messages
        assert done == f"{len(rows)} unchanged"
        assert left_out.startswith("left out, as an import does not set them: account, marketplace, status")
        assert shop("export", "customers", "--format", "csv").out == text

        number = rows[0]["customer_id"]
        file.write_text(f"customer_id;price list;E-mail 3\n{number};Trade;ann@example.com\n")
        assert shop("customers", "import", str(file), "--dry-run").lines == [
            f"line 2: changed customer {number}: price list, e-mails"
        ]
        assert shop("customers", "import", str(file)).messages == ["1 changed"]
        shown = shop("customers", "show", number, "--json").json()
        assert (shown["price_list"], shown["emails"][-1]) == ("Trade", "ann@example.com")
