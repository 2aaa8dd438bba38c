"""Tests, sorted by what they cost: unit, integration, acceptance, migration."""
