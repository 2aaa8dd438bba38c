"""Marketplace files: every key, every refusal in words, and that one wrong file stops only itself."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from config.marketplaces import INCLUDED_DATA, MarketplaceFiles, OrderStatus, read_marketplaces
from connectors.marketplaces import BY_NAME

UK = {
    "marketplace": "'UK'",
    "account": "'acme'",
    "start_date": "2026-01-01",
    "price_list": "'Amazon UK retail'",
}
DE = UK | {"marketplace": "'DE'", "price_list": "'Amazon DE retail'"}


def toml(required: dict[str, str], **more: str) -> str:
    return "".join(f"{key} = {value}\n" for key, value in (required | more).items())


def read(folder: Path, **files: str) -> MarketplaceFiles:
    (folder / "marketplaces").mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / "marketplaces" / f"{name}.toml").write_text(text)
    return read_marketplaces(folder / "marketplaces", BY_NAME, {"acme", "other"})


def refusals(folder: Path, **files: str) -> list[str]:
    """The problems' sentences; each of them stops a file, and no file is good and wrong at once."""
    found = read(folder, **files)
    assert all((p.severity, p.stops) == ("error", "marketplace") for p in found.problems)
    assert not {m.file for m in found.good} & {p.subject for p in found.problems}
    return [str(problem) for problem in found.problems]


def test_a_file_with_the_required_keys_has_the_defaults_of_the_contract(tmp_path: Path) -> None:
    found = read(tmp_path, uk=toml(UK))
    assert found.problems == ()
    (uk,) = found.good
    assert uk.model_dump() == {
        "file": "marketplaces/uk.toml",
        "code": "UK",
        "marketplace_id": "A1F83G8C2ARO7P",
        "region": "EU",
        "currency": "GBP",
        "account": "acme",
        "enabled": True,
        "start_date": date(2026, 1, 1),
        "price_list": "Amazon UK retail",
        "price_list_currency": "GBP",
        "tax_code": None,
        "discount_percent": Decimal(0),
        "pending": "hold",
        "without_email": "per_order",
        "included_data": INCLUDED_DATA,
        "split": False,
        "order_status": {"new": None, "fba": None, "prime": None},
        "labels": {},
    }


def test_every_key_is_read(tmp_path: Path) -> None:
    text = """
        marketplace = "DE"
        account = "other"
        enabled = false
        start_date = 2030-12-31
        price_list = "Liste"
        price_list_currency = "EUR"
        tax_code = "DE19"
        discount_percent = 2.50
        pending = "placeholder"
        without_email = "shared"
        included_data = ["TAX", "FULFILLMENT"]
        split = true
        [order_status]
        fba = "FBA order"
        [labels]
        channel = "Amazon DE"
        "odd.key" = "kept"
    """
    found = read(tmp_path, de=text)
    assert found.problems == ()
    (de,) = found.good
    assert (de.code, de.account, de.enabled, de.split) == ("DE", "other", False, True)
    assert (de.start_date, de.price_list, de.tax_code) == (date(2030, 12, 31), "Liste", "DE19")
    assert str(de.discount_percent) == "2.50"
    assert (de.pending, de.without_email) == ("placeholder", "shared")
    assert de.included_data == ("TAX", "FULFILLMENT")
    assert de.order_status == OrderStatus(fba="FBA order")
    assert de.labels == {"channel": "Amazon DE", "odd.key": "kept"}


@pytest.mark.parametrize("name", ["UK", "GB", "A1F83G8C2ARO7P", "uk", " gb ", "a1f83g8c2aro7p"])
def test_a_marketplace_is_named_by_country_code_or_id(tmp_path: Path, name: str) -> None:
    (uk,) = read(tmp_path, uk=toml(UK, marketplace=f"'{name}'")).good
    assert (uk.code, uk.marketplace_id) == ("UK", "A1F83G8C2ARO7P")


def test_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    assert [m.code for m in read(tmp_path, b=toml(UK), a=toml(DE)).good] == ["DE", "UK"]


@pytest.mark.parametrize("key", ["marketplace", "account", "start_date", "price_list"])
def test_a_required_key_that_is_missing_is_named(tmp_path: Path, key: str) -> None:
    text = toml({k: v for k, v in UK.items() if k != key})
    assert refusals(tmp_path, uk=text) == [f"marketplaces/uk.toml: {key} is missing; it is required"]


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("discount_percent", "120", "discount_percent is 120; it must be between 0 and 100"),
        ("discount_percent", "-0.01", "discount_percent is -0.01; it must be between 0 and 100"),
        ("discount_percent", "nan", "discount_percent is NaN; it must be between 0 and 100"),
        (
            "discount_percent",
            "'5'",
            'discount_percent is "5"; it must be a number between 0 and 100, without quotes',
        ),
        (
            "discount_percent",
            "true",
            "discount_percent is true; it must be a number between 0 and 100, without quotes",
        ),
        (
            "start_date",
            "'2026-01-01'",
            'start_date is "2026-01-01"; it must be a date without a time and without quotes, '
            "like 2026-01-01",
        ),
        (
            "start_date",
            "2026-01-01T00:00:00Z",
            "start_date is 2026-01-01T00:00:00+00:00; it must be a date without a time and without quotes, "
            "like 2026-01-01",
        ),
        ("discount_percent", "0x" + "f" * 9999, "discount_percent is a very long number; it must be between"),
        ("enabled", "1", "enabled is 1; it must be true or false, without quotes"),
        ("split", "'no'", 'split is "no"; it must be true or false, without quotes'),
        ("price_list", "''", 'price_list is ""; it must be a text that is not empty'),
        ("tax_code", "20", "tax_code is 20; it must be a text that is not empty"),
        ("tax_code", "[1]", "tax_code is a list; it must be a text that is not empty"),
        ("pending", "'wait'", 'pending is "wait"; it must be hold or placeholder'),
        ("pending", "{ a = 1 }", "pending is a table; it must be hold or placeholder"),
        ("without_email", "'none'", 'without_email is "none"; it must be per_order, shared or hold'),
        ("included_data", "'TAX'", 'included_data is "TAX"; it must be a list of words in quotes'),
        (
            "included_data",
            "['TAX', 'BUYER']",
            "included_data is a list; it must have FULFILLMENT, which has an order's status",
        ),
        (
            "included_data",
            "['FULFILLMENT', 'FULFILLMENT']",
            "included_data is a list; it must have no word twice",
        ),
        (
            "included_data",
            "['FULFILLMENT', 'buyer']",
            'included_data is a list; it must not have "buyer"; allowed are BUYER, RECIPIENT, PROCEEDS, '
            "PROMOTION, FULFILLMENT, CANCELLATION, PACKAGES, TAX",
        ),
        ("order_status", "'new'", 'order_status is "new"; it must be a table of key = value lines'),
        ("order_status", "{ new = 1 }", "order_status.new is 1; it must be a text that is not empty"),
        ("labels", "['a']", "labels is a list; it must be a table of key = value lines"),
        ("labels", "{ 'a.b' = true }", "labels.a.b is true; it must be a text that is not empty"),
        ("account", "'acne'", 'account is "acne"; it must be a configured account; did you mean acme?'),
        ("account", "7", "account is 7; it must be a text that is not empty"),
        ("account", "'zzz'", 'account is "zzz"; it must be a configured account; known are acme, other'),
        ("discont_percent", "5", "discont_percent is not a key of this file; did you mean discount_percent?"),
        ("'a.b'", "5", "a.b is not a key of this file; known are account, "),
        ("order_status", "{ neu = 'x' }", "order_status.neu is not a key of this file; did you mean new?"),
        (
            "order_status",
            "{ 'a.b' = 'x' }",
            "order_status.a.b is not a key of this file; known are fba, new, prime",
        ),
    ],
)
def test_a_wrong_key_is_reported_with_its_value_and_what_is_allowed(
    tmp_path: Path, key: str, value: str, sentence: str
) -> None:
    (refusal,) = refusals(tmp_path, uk=toml(UK, **{key: value}))
    assert refusal.startswith(f"marketplaces/uk.toml: {sentence}")


def test_an_unknown_marketplace_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    (refusal,) = refusals(tmp_path, uk=toml(UK, marketplace="'XX'"))
    assert refusal.startswith(
        'marketplaces/uk.toml: marketplace is "XX"; it must be a marketplace id or one of '
    )
    assert "AE, AU, BE" in refusal
    assert "UK" in refusal


def test_r41_a_price_list_in_another_currency_is_refused(tmp_path: Path) -> None:
    assert refusals(tmp_path, uk=toml(UK, price_list_currency="'EUR'")) == [
        'marketplaces/uk.toml: price_list_currency is "EUR"; it must be GBP, the currency of UK (R41)'
    ]


def test_everything_that_is_wrong_is_reported_at_once(tmp_path: Path) -> None:
    text = toml(UK, account="'zzz'", price_list_currency="'EUR'", discount_percent="101", colour="'red'")
    keys = {refusal.split()[1] for refusal in refusals(tmp_path, uk=text)}
    assert keys == {"account", "price_list_currency", "discount_percent", "colour"}


def test_one_wrong_file_stops_only_itself(tmp_path: Path) -> None:
    found = read(tmp_path, uk=toml(UK, pending="'no'"), de=toml(DE))
    assert [m.code for m in found.good] == ["DE"]
    assert [p.subject for p in found.problems] == ["marketplaces/uk.toml"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("start_date = 2026-13-01", "one key = value a line; texts need quotes, and dates must exist"),
        ("start_date = 2026-02-30", "there is no such day"),
        ("account = 'other'", "this key is there twice"),
        ("tax_code", "a key must be followed by ="),
        ('tax_code = "T20', "a text ends where its line does"),
        ("included_data = ['BUYER'", "something is not closed"),
    ],
)
def test_bad_toml_is_reported_with_the_line_and_what_is_wrong(line: str, why: str, tmp_path: Path) -> None:
    (refusal,) = refusals(tmp_path, uk=f"account = 'acme'\n{line}\n")
    assert refusal.endswith(f": {why})")


def test_bad_toml_names_file_and_line(tmp_path: Path) -> None:
    assert refusals(tmp_path, uk=toml(UK) + "tax_code = T20\n") == [
        "marketplaces/uk.toml is not valid TOML (line 5, column 12: texts need quotes, and dates must exist)"
    ]


@pytest.mark.parametrize(
    "text", ["a = [", "a = 1\na = 2", "a = " + "9" * 5000, "a = " + "[" * 5000, "a = 2026-13-01", "= 1"]
)
def test_whatever_is_no_toml_is_a_problem_and_no_fault(tmp_path: Path, text: str) -> None:
    (refusal,) = refusals(tmp_path, uk=text)
    assert refusal.startswith("marketplaces/uk.toml is not valid TOML (")


def test_an_unreadable_file_stops_only_itself(tmp_path: Path) -> None:
    (tmp_path / "marketplaces" / "uk.toml").mkdir(parents=True)
    (tmp_path / "marketplaces" / "fr.toml").write_bytes(b"\xff")
    found = read(tmp_path, de=toml(DE))
    assert [m.code for m in found.good] == ["DE"]
    assert [str(p) for p in found.problems] == [
        "marketplaces/fr.toml is not UTF-8 text",
        "marketplaces/uk.toml is a folder: name a file in it",
    ]


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    assert len(read(tmp_path, uk="\ufeff" + toml(UK)).good) == 1


def test_two_files_for_one_marketplace_of_an_account_both_stop(tmp_path: Path) -> None:
    sentence = (
        "marketplaces/gb.toml and marketplaces/uk.toml are for one marketplace of account acme; keep one"
    )
    assert refusals(tmp_path, uk=toml(UK), gb=toml(UK, marketplace="'GB'")) == [sentence, sentence]


def test_two_accounts_may_have_the_same_marketplace(tmp_path: Path) -> None:
    assert len(read(tmp_path, uk=toml(UK), uk2=toml(UK, account="'other'")).good) == 2


def test_a_file_that_is_wrong_otherwise_still_counts_as_the_second_of_its_marketplace(tmp_path: Path) -> None:
    found = read(tmp_path, uk=toml(UK), uk2=toml(UK, pending="'no'"))
    assert found.good == ()
    assert len(found.problems) == 3


def test_of_an_account_that_spans_regions_the_first_file_s_region_stays(tmp_path: Path) -> None:
    us = toml(UK, marketplace="'US'")
    assert refusals(tmp_path, de=toml(DE), uk=toml(UK), us=us) == [
        "marketplaces/us.toml: US is in region NA, but marketplaces/de.toml has account acme in region EU; "
        "an account has one region, so give it another account"
    ]
    assert [m.code for m in read(tmp_path).good] == ["DE", "UK"]


def test_two_accounts_may_be_in_two_regions(tmp_path: Path) -> None:
    found = read(tmp_path, uk=toml(UK), us=toml(UK, marketplace="'US'", account="'other'"))
    assert {m.region for m in found.good} == {"EU", "NA"}


OTHERS = {**UK, "marketplace": "'NON_AMAZON'", "price_list_currency": "'GBP'"}


@pytest.mark.parametrize("name", ["NON_AMAZON", "non_amazon", "AZMDEXL2RVFNN", "A2ZV50J4W1RKNI"])
def test_orders_of_other_shops_are_a_marketplace_without_region_and_currency(
    tmp_path: Path, name: str
) -> None:
    found = read(tmp_path, uk=toml(UK), others=toml(OTHERS, marketplace=f"'{name}'"))
    assert found.problems == ()
    others = next(m for m in found.good if m.code == "NON_AMAZON")
    assert (others.region, others.price_list_currency, others.currency) == (None, "GBP", "GBP")


def test_what_a_file_of_other_shops_needs_is_said(tmp_path: Path) -> None:
    without = {k: v for k, v in OTHERS.items() if k != "price_list_currency"}
    assert refusals(tmp_path, uk=toml(UK), others=toml(without)) == [
        "marketplaces/others.toml: price_list_currency is missing; it is required"
    ]
    (tmp_path / "alone").mkdir()
    assert refusals(tmp_path / "alone", others=toml(OTHERS)) == [
        "marketplaces/others.toml: NON_AMAZON orders come by the report of another marketplace of account "
        "acme, which has none; write its file"
    ]


def test_a_folder_without_files_is_a_problem_that_stops_all_syncing(tmp_path: Path) -> None:
    for found in (read_marketplaces(tmp_path / "none", BY_NAME, ()), read(tmp_path)):
        assert found.good == ()
        (problem,) = found.problems
        assert str(problem).startswith("no marketplace is configured: ")
        assert str(tmp_path) in str(problem)
        assert (problem.stops, problem.severity) == ("syncing", "error")


def test_a_folder_that_does_not_exist_is_named_with_its_setting(tmp_path: Path) -> None:
    (problem,) = read_marketplaces(tmp_path / "none" / "marketplaces", BY_NAME, ()).problems
    assert str(problem).endswith(
        f"the folder {tmp_path / 'none'} that ORDER_SYNC_CONFIG_DIR names does not exist"
    )


def test_a_start_in_the_future_is_a_warning(tmp_path: Path) -> None:
    today = datetime.now(UTC).date()
    soon, later = today + timedelta(days=1), today + timedelta(days=2)
    assert read(tmp_path, uk=toml(UK, start_date=str(soon))).problems == ()
    found = read(tmp_path, uk=toml(UK, start_date=str(later)))
    (problem,) = found.problems
    assert str(problem).startswith(f"marketplaces/uk.toml: start_date {later} is in the future")
    assert (problem.severity, len(found.good)) == ("warning", 1)


def test_the_settings_cannot_be_changed(tmp_path: Path) -> None:
    (uk,) = read(tmp_path, uk=toml(UK)).good
    with pytest.raises(ValueError, match="frozen"):
        uk.enabled = False  # type: ignore[misc]
