"""reasons.py: every reason's words can be made from the facts that its makers give."""

from __future__ import annotations

import ast
import re
import string
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import acmeistio
from acmeistio.reasons import MAX_FACT_CHARACTERS, Reason, Severity, defect, plain
from tests.core.builders import REF

SOURCES = sorted(Path(acmeistio.__file__).parent.rglob("*.py"))
MADE_ELSEWHERE = {
    "ManifestUnreadable": {"why"},
    "DuplicateManifest": {"object", "winner"},
    "KindUnlistable": {"kind", "why"},
}
"""Codes that local/ and kube/ send as Troubles, which have no words (ports.py)."""


def placeholders(reason: Reason) -> set[str]:
    """The facts that the words of a reason need."""
    texts = (reason.value.sentence, reason.value.remedy)
    return {field for text in texts for _, field, _, _ in string.Formatter().parse(text) if field}


def makers() -> dict[str, list[set[str] | None]]:
    """For each reason the facts of each `defect(...)` of it; None where they come as a mapping."""
    found: dict[str, list[set[str] | None]] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Name("defect"),
                    args=[ast.Attribute(value=ast.Name("Reason"), attr=code), *_],
                    keywords=keywords,
                ):
                    facts = {keyword.arg for keyword in keywords}
                    known = None if None in facts else {fact for fact in facts if fact}
                    found.setdefault(code, []).append(known)
    return found


MAKERS = makers()


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_words_come_from_the_facts(reason: Reason) -> None:
    """Sentence and remedy are filled from exactly the facts that they name (DESIGN §4, Defect)."""
    facts = {name: f"<{name}>" for name in placeholders(reason)}
    made = defect(reason, REF, **facts)
    for fact in facts.values():
        assert fact in made.sentence + made.remedy
    for text in (made.sentence, made.remedy):
        assert text
        assert not re.search(r"[{}\n]", text)
    assert made.reason is reason
    assert reason.code == reason.name
    assert reason.severity in Severity
    assert made.remedy[0].isupper() or made.remedy.startswith("<")


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_makers_give_the_facts(reason: Reason) -> None:
    """Each reason is made somewhere, and each maker gives the facts its words need (issue 3 §2).

    Where the facts come as a mapping, a test of that maker asks for the words (test_sources,
    test_decide).
    """
    if reason.name in MADE_ELSEWHERE:
        assert placeholders(reason) == MADE_ELSEWHERE[reason.name]
        spellings = (f'"{reason.name}"', f"Reason.{reason.name}.name")
        assert any(spelt in path.read_text() for path in SOURCES for spelt in spellings)
        return
    assert MAKERS.get(reason.name), "nothing makes a Defect of it"
    for facts in MAKERS[reason.name]:
        assert facts is None or facts == placeholders(reason)


def test_missing_fact_is_noticed() -> None:
    """A maker that forgets a fact fails in the tests above: words are never half filled."""
    with pytest.raises(KeyError):
        _ = defect(Reason.InvalidName, REF, name="x").sentence


def test_facts_are_not_interpreted() -> None:
    """A user's text with braces is shown as it is, not filled in (DESIGN §5, Errors)."""
    made = defect(Reason.InvalidName, REF, name="{why.__class__}{0}", why="it is {name}")
    assert "{why.__class__}{0} can't" in made.sentence
    assert "it is {name}" in made.sentence


HOSTILE = st.text(alphabet="a\n\r\t\x00\x1b\x7f\x85\x9f\u2028\u202e\u2066\u200f\ud800\udfff é")


@given(st.text() | HOSTILE | st.binary() | st.none() | st.integers(), st.integers(1, 40))
def test_plain_text_is_harmless(value: object, limit: int) -> None:
    """Outside text loses control and direction characters, and length (DESIGN §5, Errors).

    What is left can be written anywhere: lone surrogates, which JSON and YAML let in and no
    file takes, are gone too.
    """
    text = plain(value, limit)
    assert len(text) <= limit
    text.encode()
    assert not {unicodedata.category(c) for c in text} & {"Cc", "Cs", "Zl", "Zp"}
    assert not {unicodedata.bidirectional(c) for c in text} & {"RLO", "LRO", "RLE", "LRE", "RLI"}
    assert not set(text) & set("\u061c\u200e\u200f")


def test_plain_keeps_what_is_harmless() -> None:
    """Names in any script stay; a cut is marked (DESIGN §5, Errors)."""
    assert plain("Bücher, 例え and пример") == "Bücher, 例え and пример"
    assert plain("one\r\ntwo") == "one two"
    assert plain("x" * 300) == "x" * MAX_FACT_CHARACTERS
    assert plain("x" * 301) == "x" * (MAX_FACT_CHARACTERS - 1) + "…"


@given(st.dictionaries(st.sampled_from(["name", "why"]), HOSTILE, min_size=2))
def test_facts_of_a_defect_are_plain(facts: dict[str, str]) -> None:
    """A Defect holds nothing that could forge a log line, and its facts in one order."""
    made = defect(Reason.InvalidName, REF, **facts)
    assert [key for key, _ in made.facts] == ["name", "why"]
    assert "\n" not in made.sentence
    assert "\x1b" not in made.sentence
