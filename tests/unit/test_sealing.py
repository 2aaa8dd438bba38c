"""Sealed values open in their place with their key and nowhere else; hashes never change."""

from __future__ import annotations

import base64

import pytest

from config.values import keys
from store.sealing import Lookup, Sealer, SealError, UnknownKey, new_key

OLD, NEW = bytes(range(32)), bytes(range(32, 64))


@pytest.mark.parametrize("plain", [b"", b"x", "Zoë 🎂".encode(), bytes(100_000)])
def test_what_was_sealed_opens_in_its_place(plain: bytes) -> None:
    sealer = Sealer([OLD])
    assert sealer.open(sealer.seal(plain, "orders:1:buyer"), "orders:1:buyer") == plain


def test_a_group_of_values_is_sealed_as_one() -> None:
    sealer = Sealer([OLD])
    for value in ({"name": "Zoë", "nested": {"a": [1, None]}}, ["a", "b"], {}):
        assert sealer.open_json(sealer.seal_json(value, "p"), "p") == value


def test_sealing_twice_gives_two_values_and_neither_shows_what_is_inside() -> None:
    sealer = Sealer([OLD])
    first, second = sealer.seal(b"Ann Buyer", "p"), sealer.seal(b"Ann Buyer", "p")
    assert first != second
    assert b"Ann" not in first


def test_a_value_in_another_place_does_not_open() -> None:
    sealed = Sealer([OLD]).seal(b"Ann Buyer", "orders:1:buyer")
    for place in ("orders:2:buyer", "orders:1:delivery", "customers:1:buyer", ""):
        with pytest.raises(SealError, match="damaged, or was moved from another row"):
            Sealer([OLD]).open(sealed, place)


def test_another_key_does_not_open_and_the_setting_is_named() -> None:
    sealed = Sealer([OLD]).seal(b"Ann Buyer", "orders:1:buyer")
    with pytest.raises(UnknownKey, match=r"orders:1:buyer: .*ORDER_SYNC_ENCRYPTION_KEY"):
        Sealer([NEW]).open(sealed, "orders:1:buyer")


def test_a_rotation_loses_nothing_at_any_step() -> None:
    steps = [Sealer([OLD]), Sealer([OLD, NEW]), Sealer([NEW, OLD]), Sealer([NEW])]
    by_old = [step.seal(b"secret", "p") for step in steps[:2]]
    by_new = [step.seal(b"secret", "p") for step in steps[2:]]
    for value in by_old:
        for step in steps[:3]:
            assert step.open(value, "p") == b"secret"
        with pytest.raises(UnknownKey):
            steps[3].open(value, "p")
    for value in by_new:
        for step in steps[1:]:
            assert step.open(value, "p") == b"secret"
        with pytest.raises(UnknownKey):
            steps[0].open(value, "p")


def test_no_damaged_value_opens() -> None:
    sealer = Sealer([OLD])
    sealed = sealer.seal(b"secret", "p")
    for i in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[i] ^= 1
        with pytest.raises(SealError) as refused:
            sealer.open(bytes(damaged), "p")
        assert "secret" not in str(refused.value)
    for length in range(len(sealed)):
        with pytest.raises(SealError):
            sealer.open(sealed[:length], "p")


def test_a_value_sealed_by_the_first_release_still_opens() -> None:
    first_release = bytes.fromhex(
        "017d8a485a000102030405060708090a0b066cb83b8790bb7eff094bafdddad11de7940476795630ffdd"
    )
    assert Sealer([OLD]).open(first_release, "orders:1:buyer") == b"Ann Buyer"


def test_a_sealer_shows_nothing_of_its_keys() -> None:
    shown = repr(Sealer([OLD])) + str(vars(Sealer([OLD])))
    for form in (OLD.hex(), repr(OLD), base64.b64encode(OLD).decode()):
        assert form not in shown


def test_without_a_key_there_is_no_sealer() -> None:
    with pytest.raises(ValueError, match="no encryption key is configured"):
        Sealer([])


# --- keys as they are configured ------------------------------------------------------------------


def test_a_new_key_is_one_that_the_setting_takes_and_never_the_same() -> None:
    first, second = new_key(), new_key()
    assert first != second
    assert [len(key) for key in keys(f"{first},{second}")] == [32, 32]


def test_blanks_around_a_key_do_not_matter() -> None:
    text = base64.b64encode(OLD).decode()
    assert keys(f" {text}\n") == (OLD,)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not base64, but my secret passphrase", "is not a valid base64-encoded 32-byte key"),
        ("schlüssel", "is not a valid base64-encoded 32-byte key"),
        ("QUJD", "is not a valid base64-encoded 32-byte key; it has 3 bytes"),
        ("", "must be a text that is not empty"),
        (base64.b64encode(bytes(64)).decode(), "has 64 bytes"),
        (base64.b64encode(OLD).decode()[:-2] + "!!", "is not a valid base64-encoded 32-byte key"),
    ],
)
def test_a_wrong_key_is_refused_without_being_shown(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        keys(text)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    if text:
        assert text not in str(refused.value)


# --- hashes for finding ---------------------------------------------------------------------------


def test_an_e_mail_has_one_hash_whatever_its_letters_and_blanks() -> None:
    lookup = Lookup(OLD)
    hashes = {
        lookup.email("acme", form) for form in ("ann@example.com", "ANN@EXAMPLE.COM", "  Ann@Example.com\t\n")
    }
    assert len(hashes) == 1
    assert len(hashes.pop()) == 16
    assert lookup.email("acme", "straße@example.com") == lookup.email("acme", "STRAẞE@example.com")
    assert lookup.email("acme", "straße@example.com") != lookup.email("acme", "strasse@example.com")


def test_dots_and_plus_tags_make_another_e_mail() -> None:
    lookup = Lookup(OLD)
    forms = ("ann@example.com", "a.nn@example.com", "ann+x@example.com", "ann@example.org")
    assert len({lookup.email("acme", form) for form in forms}) == 4


def test_a_business_or_a_key_of_its_own_has_hashes_of_its_own() -> None:
    hashes = {
        Lookup(OLD).email("acme", "ann@example.com"),
        Lookup(OLD).email("beta", "ann@example.com"),
        Lookup(NEW).email("acme", "ann@example.com"),
        Lookup(OLD).email("acme ", "ann@example.com"),
    }
    assert len(hashes) == 4
    assert Lookup(OLD).words("acme", "ann").isdisjoint(Lookup(OLD).words("beta", "ann"))


def test_words_are_found_without_their_accents_case_and_order() -> None:
    lookup = Lookup(OLD)
    assert lookup.words("acme", "Zoë Överdiktad") == lookup.words("acme", "OVERDIKTAD, zoe!")
    assert lookup.words("acme", "Ann-Marie O'Neil") == lookup.words("acme", "neil o marie ann")
    assert len(lookup.words("acme", "ann ann Ann")) == 1
    assert lookup.words("acme", " … ") == set()
    assert lookup.words("acme", "李 小龙") == lookup.words("acme", "小龙 李") != set()


def test_a_word_s_number_fits_a_whole_number_column() -> None:
    numbers = Lookup(OLD).words("acme", " ".join(f"word{i}" for i in range(300)))
    assert len(numbers) == 300
    assert all(0 <= number < 2**63 for number in numbers)


def test_a_credential_s_fingerprint_is_short_and_tells_credentials_apart() -> None:
    lookup = Lookup(OLD)
    assert lookup.fingerprint("a") == lookup.fingerprint("a") != lookup.fingerprint("b")
    assert len(lookup.fingerprint("Atzr|secret")) == 24


def test_the_hashes_are_those_that_every_database_holds() -> None:
    """With any other hash no stored customer would match again, so these numbers never change."""
    lookup = Lookup(OLD)
    assert lookup.email("acme", "Ann@Example.com").hex() == "4a7074a5f2b4de496b5674168e37cd40"
    assert lookup.words("acme", "Ann Buyer") == {6023078806309946477, 6907109404173560865}
    assert lookup.fingerprint("credential") == "0efbf58d784bd6f1de07f172"
