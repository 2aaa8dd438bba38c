"""Our words for what the database calls by short names."""

from __future__ import annotations

BASIS = {
    "created": "new customer",
    "email_1": "known by e-mail",
    "email_2": "known by second e-mail",
    "email_3": "known by third e-mail",
    "retained_hash": "known by erased e-mail",
    "unidentified": "no e-mail, own record",
    "shared": "no e-mail, shared record",
    "promoted": "e-mail came later",
    "replacement": "replaces another order",
    "placeholder": "pending, on placeholder",
    "held": "waits for its customer",
    "none": "no customer",
}
"""Why an order has its customer (the exported ``match_basis``), in a few words."""
