"""The tests: see tests/run for the levels."""
