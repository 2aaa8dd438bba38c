"""What a person enters of a customer is shown as it was entered: by commands, API and console."""

from __future__ import annotations

import csv
import html
import io
import json
from pathlib import Path

from tests.acceptance.web_world import ALL, served
from tests.unit.test_customer_texts import NAMES

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
