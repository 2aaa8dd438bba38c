"""Amazon's marketplaces (ID, country code, region, currency) and the endpoint of each region.

IDs: SP-API documentation, "Marketplace IDs". The currency is the country's; it only checks a seller's
price list (R41) and never stands in for the currency of an amount.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Region = Literal["NA", "EU", "FE"]


@dataclass(frozen=True, slots=True)
class Marketplace:
    """One Amazon marketplace; ``domain`` is its shop's, and ends its relay e-mail addresses."""

    code: str
    id: str
    region: Region | None
    currency: str
    domain: str

    @property
    def relay_domain(self) -> str:
        """Return the domain of the marketplace's anonymised buyer e-mails."""
        return f"marketplace.{self.domain}"


MARKETPLACES: tuple[Marketplace, ...] = (
    Marketplace("US", "ATVPDKIKX0DER", "NA", "USD", "amazon.com"),
    Marketplace("CA", "A2EUQ1WTGCTBG2", "NA", "CAD", "amazon.ca"),
    Marketplace("MX", "A1AM78C64UM0Y8", "NA", "MXN", "amazon.com.mx"),
    Marketplace("BR", "A2Q3Y263D00KWC", "NA", "BRL", "amazon.com.br"),
    Marketplace("UK", "A1F83G8C2ARO7P", "EU", "GBP", "amazon.co.uk"),
    Marketplace("DE", "A1PA6795UKMFR9", "EU", "EUR", "amazon.de"),
    Marketplace("FR", "A13V1IB3VIYZZH", "EU", "EUR", "amazon.fr"),
    Marketplace("IT", "APJ6JRA9NG5V4", "EU", "EUR", "amazon.it"),
    Marketplace("ES", "A1RKKUPIHCS9HS", "EU", "EUR", "amazon.es"),
    Marketplace("NL", "A1805IZSGTT6HS", "EU", "EUR", "amazon.nl"),
    Marketplace("BE", "AMEN7PMS3EDWL", "EU", "EUR", "amazon.com.be"),
    Marketplace("IE", "A28R8C7NBKEWEA", "EU", "EUR", "amazon.ie"),
    Marketplace("SE", "A2NODRKZP88ZB9", "EU", "SEK", "amazon.se"),
    Marketplace("PL", "A1C3SOZRARQ6R3", "EU", "PLN", "amazon.pl"),
    Marketplace("TR", "A33AVAJ2PDY3EV", "EU", "TRY", "amazon.com.tr"),
    Marketplace("ZA", "AE08WJ6YKNBMC", "EU", "ZAR", "amazon.co.za"),
    Marketplace("EG", "ARBP9OOSHTCHU", "EU", "EGP", "amazon.eg"),
    Marketplace("SA", "A17E79C6D8DWNP", "EU", "SAR", "amazon.sa"),
    Marketplace("AE", "A2VIGQ35RCS4UG", "EU", "AED", "amazon.ae"),
    Marketplace("IN", "A21TJRUUN4KGV", "EU", "INR", "amazon.in"),
    Marketplace("SG", "A19VAU5U5O7RUS", "FE", "SGD", "amazon.sg"),
    Marketplace("AU", "A39IBJ37TRP1C6", "FE", "AUD", "amazon.com.au"),
    Marketplace("JP", "A1VC38T7YXB528", "FE", "JPY", "amazon.co.jp"),
)

NON_AMAZON = Marketplace("NON_AMAZON", "NON_AMAZON", None, "", "")
"""Stands for every shop that is not Amazon's: Amazon ships its orders (multi-channel fulfilment), and lists
them only in the report of all orders (selling-partner-api-sdk issue 764)."""

NON_AMAZON_IDS = frozenset(
    {
        "A2ZV50J4W1RKNI",
        "A1MQXOICRS2Z7M",
        "A3H6HPSLHAK3XG",
        "AZMDEXL2RVFNN",
        "A38D8NSA03LJTC",
        "A1ZFFQZ3HTUKT9",
        "A62U237T8HV6N",
        "AFQLKURYRPEL8",
    }
)
"""The marketplace IDs that such orders have: of US, CA, MX, UK, DE, FR, IT, ES."""

ENDPOINTS: dict[Region, str] = {
    "NA": "https://sellingpartnerapi-na.amazon.com",
    "EU": "https://sellingpartnerapi-eu.amazon.com",
    "FE": "https://sellingpartnerapi-fe.amazon.com",
}

BY_ID: dict[str, Marketplace] = {m.id: m for m in MARKETPLACES}
BY_NAME: dict[str, Marketplace] = (
    {m.code: m for m in MARKETPLACES}
    | BY_ID
    | {"GB": BY_ID["A1F83G8C2ARO7P"]}
    | dict.fromkeys((NON_AMAZON.code, *NON_AMAZON_IDS), NON_AMAZON)
)
"""Keyed by country code (GB is UK too), ``NON_AMAZON``, and by marketplace ID."""

CODES: dict[str, str] = {place.id: place.code for place in (*MARKETPLACES, NON_AMAZON)}
