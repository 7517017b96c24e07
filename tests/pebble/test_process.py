"""How the process ends: by a signal, or because it can't work as it was told to."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pebble.local_ca import CaOptions
from pebble.processes import LOOPBACK
from pebble.program import Program
from tests.pebble.conftest import MakeSite
from tests.pebble.program import Site, seen_in

END_SECONDS = 5.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_it(site: Site, number: int) -> None:
    """Within five seconds, with exit code 0 and without a complaint."""
    program = site.start()
    site.wait_for_certificate()
    assert program.end(number, seconds=END_SECONDS) == 0
    assert not program.events("failed")
    assert "Traceback" not in program.output


def test_a_signal_ends_it_in_the_middle_of_an_order(make_site: MakeSite) -> None:
    """So it does while the CA validates; the next process goes on with the same order or a new."""
    site = make_site(CaOptions(validation_delay=True))
    program = site.start()
    site.wait_for(seen_in(site.ca.log, "Attempting to validate"), "validation")
    assert program.end(seconds=END_SECONDS) == 0
    assert "Traceback" not in program.output
    site.start()
    site.wait_for_certificate()
    assert site.ca.count("orders") <= 2


def without_issuer(site: Site) -> list[str]:
    """A required option is missing."""
    words = site.words()
    at = words.index("--issuer")
    return words[:at] + words[at + 2 :]


def with_two_mistakes(site: Site) -> list[str]:
    """Two options that are wrong."""
    return site.words(directory="http://localhost/dir", gateway_namespace="Not A Namespace")


def without_manifests(site: Site) -> list[str]:
    """The manifests folder does not exist."""
    return site.words(manifests=site.folder / "nowhere")


def with_missing_bundle(site: Site) -> list[str]:
    """The CA bundle does not exist."""
    return site.words(ca_bundle=site.folder / "nowhere.pem")


def with_bad_bundle(site: Site) -> list[str]:
    """The CA bundle is no PEM file."""
    bundle = site.folder / "bundle.pem"
    bundle.write_text("not a certificate\n")
    return site.words(ca_bundle=bundle)


def with_secrets_in_a_file(site: Site) -> list[str]:
    """The secrets folder is a file."""
    file = site.folder / "file"
    file.write_text("")
    return site.words(secrets=file)


@pytest.mark.parametrize(
    ("words", "complaints"),
    [
        (without_issuer, ["--issuer is missing"]),
        (with_two_mistakes, ["--directory 'http://", "--gateway-namespace 'Not A Namespace'"]),
        (without_manifests, ["nowhere does not exist"]),
        (with_missing_bundle, ["nowhere.pem"]),
        (with_bad_bundle, ["bundle.pem"]),
        (with_secrets_in_a_file, ["file can't be written"]),
    ],
)
def test_a_misconfiguration_is_one_line(
    site: Site, words: Callable[[Site], list[str]], complaints: list[str]
) -> None:
    """Exit code 2 and one line that says what is wrong, without a traceback."""
    assert_misconfigured(site.launch(*words(site)), *complaints)


@pytest.mark.parametrize("listen", ["challenge_listen", "admin_listen"])
def test_a_taken_port_is_a_misconfiguration(site: Site, listen: str) -> None:
    """The line names the address."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        address = f"{LOOPBACK}:{taken.getsockname()[1]}"
        program = site.launch(*site.words(**{listen: address}))
        assert_misconfigured(program, f"can't listen on {address}")


def test_a_second_process_on_the_folder_is_a_misconfiguration(
    site: Site, make_site: MakeSite, tmp_path: Path
) -> None:
    """Two writers of one folder would fight; the first goes on undisturbed."""
    first = site.start()
    site.wait_for_certificate()
    other = make_site()
    second = other.launch(*other.words(secrets=site.secrets))
    assert_misconfigured(second, f"another acmeistio works on {site.secrets}")
    assert first.alive


def assert_misconfigured(program: Program, *complaints: str) -> None:
    """It ends with exit code 2 and one line on standard error."""
    assert program.exit_code() == 2, program.output
    (line,) = program.output.splitlines()
    assert line.startswith("acmeistio: ")
    for complaint in complaints:
        assert complaint in line
