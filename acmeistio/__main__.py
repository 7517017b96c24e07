"""`python -m acmeistio` and the entry point `acmeistio`."""

from __future__ import annotations

from acmeistio.cli import cli


def main() -> None:
    """Run the command line."""
    cli()


if __name__ == "__main__":
    main()
