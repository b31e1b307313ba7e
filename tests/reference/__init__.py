"""The commit rules once more, in plain integers: the oracle of the property tests.

Why it exists: the fast implementation folds columns inside a query engine. What it must agree with is
DESIGN.md, not itself, so this module says sections 1 to 3 again, independently, as literally as it can and as
slowly as it likes.

What must always hold: standard library and `rfc8785` only, nothing of `ledger_cli`; no float between the
rounding of a single value (`q`) and the printed statistics (`stats`).

Events are dictionaries in the JSON shape, with unique keys: deduplication and the bounds of ingest are not
tested against this module.
"""
