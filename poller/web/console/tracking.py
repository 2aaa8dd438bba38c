"""Addresses at which carriers show a package. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

_PAGES: Mapping[str, str] = {
    "ups": "https://www.ups.com/track?tracknum={}",
    "fedex": "https://www.fedex.com/fedextrack/?trknbr={}",
    "dhl": "https://www.dhl.com/en/express/tracking.html?AWB={}",
    "usps": "https://tools.usps.com/go/TrackConfirmAction?tLabels={}",
    "royalmail": "https://www.royalmail.com/track-your-item#/tracking-results/{}",
    "gls": "https://gls-group.com/track/{}",
    "laposte": "https://www.laposte.fr/outils/suivre-vos-envois?code={}",
    "colissimo": "https://www.laposte.fr/outils/suivre-vos-envois?code={}",
    "evri": "https://www.evri.com/track/parcel/{}",
}
"""By how the carrier's name begins, in lower-case letters alone."""

_NUMBER = re.compile(r"[A-Za-z0-9 -]{6,40}")


def tracking_url(carrier: str | None, number: str | None) -> str | None:
    """Return the page that shows a package; None for a carrier without one, or a number that is none."""
    if carrier is None or number is None or not _NUMBER.fullmatch(number):
        return None
    name = re.sub(r"[^a-z]", "", carrier.lower())
    page = next((page for begins, page in _PAGES.items() if name.startswith(begins)), None)
    return None if page is None else page.format(quote(number.replace(" ", ""), safe=""))
