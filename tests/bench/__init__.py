"""Measurements, run by ``make bench``: never asserted by a test, because machines differ."""
