"""How fast acmeistio is, beside a bare client: `python -m tests.bench`. Asserts nothing."""
