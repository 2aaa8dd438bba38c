"""Invented orders of every kind that Amazon's model and users describe, the same for the same seed.

People, streets and shops are obviously invented; phone numbers are from ranges reserved for fiction, if the
country has one. About a third of the orders come from returning buyers: the same relay address within a
marketplace, another one elsewhere, sometimes in upper case, with a new name or another delivery address.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random

from connectors.marketplaces import BY_NAME, Marketplace
from connectors.simulator.orders import (
    POISONS,
    WITHOUT_CENTS,
    Address,
    Facts,
    Line,
    Order,
    Package,
    TaxNumber,
    Version,
)

FUTURE_STATUS = "AWAITING_TELEPORT"
FUTURE_PROGRAM = "AMAZON_MOONSHOT"
OTHER_CHANNEL_MARKETPLACES = {"US": "A2ZV50J4W1RKNI", "UK": "AZMDEXL2RVFNN", "DE": "A38D8NSA03LJTC"}
"""Pseudo-marketplaces of orders from other channels (seen by users, not documented)."""

_GIVEN = ("Alma", "Bruno", "Clio", "Dario", "Enya", "Falk", "Gitta", "Hugo", "Ines", "Jonas", "Kaja", "Zoë")
_FAMILY = ("Musterfrau", "Specimen", "Exemple", "Inventado", "Fittizio", "Placeholder", "Ficta", "Överdiktad")
_STREETS = ("Invented Street", "Made-up Lane", "Sample Row", "Imaginary Road", "Fiction Alley")
_TOWNS = ("Sampleton", "Exampleford", "Nowhereham", "Testhausen", "Ville-Exemple")
_THINGS = ("Kettle", "Umbrella", "Lamp", "Notebook", "Teapot", "Scarf", "Puzzle", "Candle")
_PHONES = {"UK": "+44 1632 960{:03d}", "US": "+1 202-555-0{:03d}", "FR": "+33 1 99 00 0{:03d}"}
_STATES = {"US": "WA", "CA": "ON", "BR": "SP", "AU": "NSW", "IN": "KA", "MX": "CMX"}


@dataclass(slots=True)
class _Person:
    """A buyer. The relay addresses depend on ``number``."""

    number: int
    name: str
    home: Address
    code: str


@dataclass(frozen=True, slots=True)
class _Habits:
    returning: float
    amazon_fulfilled: float
    late: float
    withheld: float
    future: float
    poisoned: float
    unlisted: float


def populate(
    *,
    seed: int,
    marketplaces: Iterable[str],
    orders: int,
    start: datetime,
    end: datetime,
    returning: float = 0.3,
    amazon_fulfilled: float = 0.35,
    late: float = 0.02,
    withheld: float = 0.02,
    future: float = 0.005,
    poisoned: float = 0.0,
    unlisted: float = 0.0,
) -> Iterator[Order]:
    """Yield ``orders`` orders created between ``start`` and ``end``, oldest first.

    Shares from 0 to 1: ``returning`` buyers, ``amazon_fulfilled`` orders, updates shown hours ``late``,
    first unshipped versions with the buyer ``withheld``, words of a ``future`` model, ``poisoned`` orders,
    orders ``unlisted`` by every search; those of other shops always are.
    """
    random = Random(f"population {seed}")
    places = [BY_NAME[code] for code in marketplaces]
    habits = _Habits(returning, amazon_fulfilled, late, withheld, future, poisoned, unlisted)
    span = int((end - start).total_seconds() * 1000)
    times = sorted(start + timedelta(milliseconds=random.randrange(span)) for _ in range(orders))
    ids: set[str] = set()
    people: list[_Person] = []
    replaceable: dict[str, tuple[str, _Person]] = {}
    for time in times:
        place = random.choice(places)
        person = _buyer(random, people, place, habits)
        order_id = _order_id(random, ids)
        whole = random.random() < 0.4
        created = time.replace(microsecond=0) if whole and time.second else time
        before = replaceable.get(place.code)
        story = _Story(random, seed, place, order_id, created, habits)
        if before is not None and random.random() < 0.03:
            facts = story.replacement(*before)
        else:
            facts = story.purchase(person)
        versions = story.versions(facts, end)
        if versions[-1].facts.status == "SHIPPED" and facts.replaces is None:
            replaceable[place.code] = (order_id, person)
        # Drawn only if requested, so that all other worlds stay the same.
        hidden = unlisted > 0 and random.random() < unlisted
        hidden |= facts.channel == "NON_AMAZON"
        yield Order(order_id, created, place.id, versions, hidden)


def relay_address(seed: int, number: int, place: Marketplace) -> str:
    """Return the anonymised address of person ``number`` on a marketplace: 15 letters and digits."""
    digest = hashlib.blake2b(f"{seed}/{number}/{place.id}".encode(), digest_size=15).digest()
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    return "".join(letters[byte % 36] for byte in digest) + "@" + place.relay_domain


def _order_id(random: Random, taken: set[str]) -> str:
    while True:
        digits = f"{random.randrange(10**17):017d}"
        order_id = f"{digits[:3]}-{digits[3:10]}-{digits[10:]}"
        if order_id not in taken:
            taken.add(order_id)
            return order_id


def _buyer(random: Random, people: list[_Person], place: Marketplace, habits: _Habits) -> _Person:
    if people and random.random() < habits.returning:
        # Of three of the last few hundred, prefer one of this marketplace.
        recent = [people[-1 - random.randrange(min(len(people), 400))] for _ in range(3)]
        person = next((each for each in recent if each.code == place.code), recent[0])
        if random.random() < 0.1:
            person.name = f"{person.name.split()[0]} {random.choice(_FAMILY)}-{random.choice(_FAMILY)}"
        if random.random() < 0.1:
            person.home = _address(random, place, person.name)
        return person
    name = f"{random.choice(_GIVEN)} {random.choice(_FAMILY)}"
    person = _Person(len(people), name, _address(random, place, name), place.code)
    people.append(person)
    return person


def _address(random: Random, place: Marketplace, name: str) -> Address:
    number = random.randrange(1, 200)
    phone = _PHONES.get(place.code, "+999 555 01{:03d}").format(random.randrange(100, 200))
    return Address(
        name=name,
        line1=f"{number} {random.choice(_STREETS)}",
        line2=f"Flat {random.randrange(1, 30)}" if random.random() < 0.3 else None,
        city=random.choice(_TOWNS),
        county="Sample District"
        if place.code == "TR"
        else "Fictionshire"
        if place.code == "UK" and random.random() < 0.3
        else None,
        state=_STATES.get(place.code),
        municipality="Sample Borough" if place.code == "TR" else None,
        postal_code=f"ZZ{number % 90 + 1} {random.randrange(10)}ZZ"
        if place.code == "UK"
        else f"{random.randrange(10**5):05d}",
        country="GB" if place.code == "UK" else place.code,
        phone=phone if random.random() < 0.9 else None,
        kind="COMMERCIAL" if random.random() < 0.1 else "RESIDENTIAL",
        extended=(("streetName", "Rua Inventada"), ("streetNumber", str(number)))
        if place.code == "BR"
        else (),
    )


class _Story:
    """The life of one order."""

    def __init__(
        self,
        random: Random,
        seed: int,
        place: Marketplace,
        order_id: str,
        created: datetime,
        habits: _Habits,
    ) -> None:
        self.random, self.seed, self.place = random, seed, place
        self.order_id, self.created, self.habits = order_id, created, habits

    def _chance(self, share: float) -> bool:
        return self.random.random() < share

    # --- the purchase ------------------------------------------------------------------------------

    def purchase(self, person: _Person) -> Facts:
        place, random = self.place, self.random
        by_amazon = self._chance(self.habits.amazon_fulfilled)
        email = relay_address(self.seed, person.number, place)
        if self._chance(0.05):
            local, _, domain = email.partition("@")
            email = f"{local.upper()}@{domain}"
        facts = Facts(
            order_id=self.order_id,
            created=self.created,
            currency=place.currency,
            marketplace_id=place.id,
            marketplace_name=place.domain.capitalize(),
            status="PENDING",
            fulfilled_by="AMAZON" if by_amazon else "MERCHANT",
            service_level=random.choice(("STANDARD", "STANDARD", "EXPEDITED", "NEXT_DAY", "SECOND_DAY")),
            seller_order_id=f"SHOP-{random.randrange(10**6):06d}" if self._chance(0.1) else None,
            name=person.name,
            email=email,
            delivery=replace(person.home, name=person.name),
            drop_off="Behind the imaginary shed" if self._chance(0.03) else None,
            instruction="Ring twice, please" if self._chance(0.03) else None,
            lines=tuple(self._line(i, by_amazon) for i in range(random.choice((1, 1, 1, 1, 2, 2, 3, 5)))),
            tip=Decimal(2) if self._chance(0.01) else None,
            ship_by=self.created + timedelta(days=2),
            deliver_by=self.created + timedelta(days=random.randrange(4, 9)),
            payment_method=random.choice(("CREDIT_CARD", "INVOICE", None, None)),
            fulfilment_order_id=f"EASY-{random.randrange(10**6)}" if place.code == "IN" else None,
            priced_while_pending=self._chance(0.3),
            milliseconds=self.created.microsecond != 0,
            empty_strings=self._chance(0.15),
            news=self._chance(0.05),
        )
        facts = self._of_a_kind(facts, by_amazon)
        if self._chance(self.habits.poisoned):
            facts = replace(facts, poison=random.choice(sorted(POISONS)))
        return facts

    def replacement(self, original: str, person: _Person) -> Facts:
        facts = replace(self.purchase(person), replaces=original, tip=None)
        free = [
            replace(
                line, unit_price=Decimal(0), tax=None, shipping=None, discount=None, gift_wrap=None, fees=()
            )
            for line in facts.lines
        ]
        return replace(facts, lines=tuple(free))

    def _of_a_kind(self, facts: Facts, by_amazon: bool) -> Facts:
        """Turn a few orders in a hundred into each special kind; most stay plain."""
        draw = self.random.random()
        programs = ["PRIME"] if self._chance(0.5 if by_amazon else 0.08) else []
        if self._chance(self.habits.future):
            programs.append(FUTURE_PROGRAM)
        facts = replace(facts, programs=tuple(programs))
        home = facts.delivery or Address()
        if draw < 0.06:
            company = f"{self.random.choice(_FAMILY)} Imaginary Goods Ltd"
            return replace(
                facts,
                programs=(*facts.programs, "AMAZON_BUSINESS"),
                company=company,
                purchase_order_number=f"PO-{self.random.randrange(10**5)}" if self._chance(0.7) else None,
                delivery=replace(home, company=company, kind="COMMERCIAL"),
                tax_numbers=(TaxNumber("VAT", f"XX{self.random.randrange(10**9):09d}", company),),
            )
        if draw < 0.08:
            return replace(
                facts,
                programs=(*facts.programs, "AMAZON_BUSINESS", "INVOICE_BY_AMAZON"),
                name="Invented Reseller of Amazon",
                company="Invented Reseller of Amazon",
                email=f"no-reply-amazon-iba-buyer@{self.place.domain}",
            )
        if draw < 0.10 and not by_amazon:
            shop = Address(
                name="The Imaginary Shop",
                line1="7 Invented Arcade",
                city="Sampleton",
                postal_code="00007",
                country=home.country,
                phone="+999 555 0100",
                kind="COMMERCIAL",
            )
            return replace(facts, programs=(*facts.programs, "IN_STORE_PICK_UP"), delivery=shop)
        if draw < 0.13:
            locker = Address(
                name=home.name,
                line1="Locker Fictitious 9",
                city="Sampleton",
                postal_code="00009",
                country=home.country,
                kind="PICKUP_POINT",
            )
            return replace(facts, delivery=locker)
        if draw < 0.18:
            first, *others = facts.lines
            wrap = None if first.quantity == 0 else self._price(300)
            gift = replace(first, gift_message="Happy invented birthday! 🎂", gift_wrap=wrap)
            friend = f"{self.random.choice(_GIVEN)} {self.random.choice(_FAMILY)}"
            return replace(facts, lines=(gift, *others), delivery=_address(self.random, self.place, friend))
        if draw < 0.21 and by_amazon:
            return self._of_another_channel(facts)
        if draw < 0.23:
            first, *others = facts.lines
            url = f"https://zme-caps.{self.place.domain}/invented/{self.order_id}"
            return replace(facts, lines=(replace(first, customized_url=url), *others))
        return facts

    def _of_another_channel(self, facts: Facts) -> Facts:
        """Multi-channel fulfilment: Amazon ships the goods, but the buyer is not Amazon's."""
        code = self.place.code
        foreign = OTHER_CHANNEL_MARKETPLACES.get(code) if self._chance(0.5) else None
        return replace(
            facts,
            channel="NON_AMAZON",
            marketplace_id=foreign,
            marketplace_name="Non-Amazon" if foreign else None,
            email=None,
            name=None,
            programs=(),
        )

    def _price(self, upper: int) -> Decimal:
        cents = self.random.randrange(1, upper)
        return Decimal(cents) if self.place.currency in WITHOUT_CENTS else Decimal(cents) / 100

    def _line(self, index: int, by_amazon: bool) -> Line:
        random, price = self.random, self._price(20_000)
        cents = Decimal(1) if self.place.currency in WITHOUT_CENTS else Decimal("0.01")
        quantity = random.choice((1, 1, 1, 1, 1, 2, 3, 12))
        taxed = self._chance(0.5)
        discount = (price * quantity / 10).quantize(cents) if self._chance(0.15) else None
        item_id = f"{random.randrange(10**14):014d}"
        # Not drawn, so that all other worlds stay the same.
        abroad = taxed and item_id[-2:] in ("00", "01")
        fee = {"1": "COD_FEE", "2": "OTHER"}.get(item_id[-1]) if item_id[-2] in "234" else None
        return Line(
            item_id=item_id,
            unit_price=price,
            quantity=quantity,
            sku=None if self._chance(0.02) else f"INV-{random.randrange(500):03d}",
            asin=None if self._chance(0.02) else f"B0INV{random.randrange(10**5):05d}",
            title=f"Invented {random.choice(_THINGS)} № {index + 1}",
            tax=(price * quantity / 5).quantize(cents) if taxed else None,
            facilitator=taxed and self._chance(0.4) and not abroad,
            scheme={"5": "IOSS", "6": "UOSS"}.get(item_id[-1]) if taxed else None,
            fees=() if fee is None else ((fee, Decimal(3)),),
            tax_currency=("USD" if self.place.currency == "EUR" else "EUR") if abroad else None,
            shipping=self._price(900) if self._chance(0.3) else None,
            discount=-discount if discount is not None and self._chance(0.3) else discount,
            promotion_ids=("INVENTED-SALE",) if discount is not None else (),
            serial_numbers=(f"SN{random.randrange(10**8)}",) if by_amazon and self._chance(0.05) else (),
            points=random.randrange(1, 99) if self.place.code == "JP" and self._chance(0.5) else None,
        )

    # --- the versions ------------------------------------------------------------------------------

    def versions(self, facts: Facts, end: datetime) -> tuple[Version, ...]:
        """Return the versions up to ``end``, the first one in any case."""
        late = self._chance(self.habits.late)
        versions: list[Version] = []
        at = self.created
        for delay, version in self._life(facts):
            at += delay
            if not facts.milliseconds:
                at = at.replace(microsecond=0)
            if versions and at > end:
                break
            delayed = late and self._chance(0.5)
            shown = at + timedelta(minutes=self.random.randrange(30, 720)) if delayed else at
            versions.append(Version(at, max(shown, versions[-1].visible_at) if versions else shown, version))
        return tuple(versions)

    def _after(self, low_minutes: int, high_minutes: int) -> timedelta:
        return timedelta(milliseconds=self.random.randrange(low_minutes * 60_000, high_minutes * 60_000))

    def _life(self, facts: Facts) -> Iterator[tuple[timedelta, Facts]]:
        """Yield the next state and the time since the one before."""
        wait = timedelta(0)
        if self._chance(0.02):
            yield wait, replace(facts, status="PENDING_AVAILABILITY")
            wait = self._after(1, 4 * 24 * 60)
        if self._chance(0.8):
            yield wait, replace(facts, status="PENDING")
            wait = self._after(1, 60)
            if self._chance(0.04):
                yield wait, _cancelled(facts, "BUYER", "Changed an invented mind")
                return
        if facts.channel != "AMAZON" and self._chance(0.2):
            yield wait, replace(facts, status="UNFULFILLABLE")
            return
        if self._chance(self.habits.future):
            yield wait, replace(facts, status=FUTURE_STATUS)
            wait = self._after(10, 300)
        if self._chance(self.habits.withheld):
            yield wait, replace(facts, status="UNSHIPPED", withheld=True)
            wait = self._after(5, 120)
        yield wait, replace(facts, status="UNSHIPPED")
        wait = self._after(60, 2 * 24 * 60)
        if self._chance(0.03):
            facts = _cancel_requested(facts)
            yield wait, replace(facts, status="UNSHIPPED")
            wait = self._after(10, 600)
        if self._chance(0.04):
            yield wait, _cancelled(facts, self.random.choice(("BUYER", "MERCHANT", "AMAZON")), None)
            return
        yield from self._sent(facts, wait)

    def _sent(self, facts: Facts, wait: timedelta) -> Iterator[tuple[timedelta, Facts]]:
        by_merchant = facts.fulfilled_by == "MERCHANT"
        if len(facts.lines) > 1 and self._chance(0.3):
            partly = (replace(facts.lines[0], shipped=facts.lines[0].quantity), *facts.lines[1:])
            begun = replace(facts, status="PARTIALLY_SHIPPED", lines=partly)
            yield wait, replace(begun, packages=self._packages(begun, "IN_TRANSIT")) if by_merchant else begun
            wait = self._after(60, 24 * 60)
        lines = tuple(replace(line, shipped=line.quantity) for line in facts.lines)
        gone = replace(facts, status="SHIPPED", lines=lines)
        if not by_merchant:
            yield wait, gone
            return
        on_the_way = replace(gone, packages=self._packages(gone, "IN_TRANSIT"))
        yield wait, on_the_way
        final = "DELIVERED" if self._chance(0.95) else "UNDELIVERABLE"
        arrived = tuple(replace(each, status=final, detailed_status=final) for each in on_the_way.packages)
        yield self._after(12 * 60, 5 * 24 * 60), replace(on_the_way, packages=arrived)

    def _packages(self, facts: Facts, status: str) -> tuple[Package, ...]:
        package = Package(
            reference="1",
            status=status,
            carrier=self.random.choice(("Invented Carrier", "Imaginary Post")),
            tracking_number=f"TRK{self.random.randrange(10**10):010d}",
            shipped_at=self.created + timedelta(days=1),
            items=tuple((line.item_id, line.shipped) for line in facts.lines if line.shipped),
        )
        return (package,)


def _cancelled(facts: Facts, by: str, reason: str | None) -> Facts:
    lines = tuple(replace(line, quantity=0, cancelled_by=by, cancel_reason=reason) for line in facts.lines)
    return replace(facts, status="CANCELLED", lines=lines, priced_while_pending=False)


def _cancel_requested(facts: Facts) -> Facts:
    first, *others = facts.lines
    return replace(facts, lines=(replace(first, cancel_requested="Found it in a drawer"), *others))
