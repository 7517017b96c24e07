"""The setting --issuers: a YAML file, one item for each CA; and the one that options describe.

Owns which issuers there are in the end, and what is said about a file that is wrong. Its words are
in settings/issuer_words.py; which issuer counts where nobody names one is Settings'.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from acmeistio.issuer import BUILT_IN, Issuer
from acmeistio.settings.issuer_words import (
    ExternalAccountWords,
    IssuerEntry,
    LimitsWords,
    LimitWords,
    ProfileWords,
    Words,
)

_ENTRIES = TypeAdapter(list[IssuerEntry])


def known_issuers(file: Path | None, own: IssuerEntry) -> dict[str, Issuer]:
    """All issuers by name: built in, of the file, and `own`, which the other options describe.

    Raises ValueError that has all mistakes.
    """
    entries = {entry.name: entry for entry in issuer_entries(file)} if file else {}
    listed = entries.get(own.name)
    entries[own.name] = _joined(own, listed, file) if listed else own
    issuers = {**BUILT_IN, **{name: entry.issuer for name, entry in entries.items()}}
    _raise(_wrong_fallbacks(issuers))
    return issuers


def issuer_entries(file: Path) -> list[IssuerEntry]:
    """The items of a file, caBundle with the file's folder. Raises ValueError, all mistakes."""
    content = _content(file)
    try:
        entries = _ENTRIES.validate_python(content)
    except ValidationError as error:
        _raise(f"{file}: {_sentence(item, content)}" for item in error.errors())
        raise
    _raise(f"{file}: {mistake}" for mistake in _wrong_entries(entries, file.parent))
    return [_in_folder(entry, file.parent) for entry in entries]


def _joined(own: IssuerEntry, listed: IssuerEntry, file: Path | None) -> IssuerEntry:
    """What options and file say of one issuer. Raises ValueError where they contradict."""
    both = own.said.keys() & listed.said.keys()
    _raise(
        f"--{word.replace('_', '-')} {own.said[word]} contradicts {to_camel(word)} "
        f"{listed.said[word]} of issuer {own.name} in {file}; say it in one of the two"
        for word in sorted(both)
        if own.said[word] != listed.said[word]
    )
    return listed.model_copy(update=own.said)


def _content(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"--issuers {file} can't be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise ValueError(f"--issuers {file} is not YAML{line}") from error


def _in_folder(entry: IssuerEntry, folder: Path) -> IssuerEntry:
    if entry.ca_bundle is None:
        return entry
    return entry.model_copy(update={"ca_bundle": str(folder / entry.ca_bundle)})


def _wrong_entries(entries: list[IssuerEntry], folder: Path) -> Iterable[str]:
    """What each item by itself doesn't show, or needs more than its words."""
    for name, count in Counter(entry.name for entry in entries).items():
        if count > 1:
            yield f"issuer {name} stands there {count} times; give each a name of its own"
    for entry in entries:
        if entry.directory is None and entry.name not in BUILT_IN:
            yield f"issuer {entry.name}: directory is missing: the URL of its ACME directory"
        if entry.ca_bundle and not (folder / entry.ca_bundle).is_file():
            yield f"issuer {entry.name}: caBundle: there is no file {folder / entry.ca_bundle}"


def _wrong_fallbacks(issuers: Mapping[str, Issuer]) -> Iterable[str]:
    """A fallback is another issuer that exists, is no less trusted, and does not lead back."""
    for name, issuer in issuers.items():
        if issuer.fallback is None:
            continue
        said = f"issuer {name}: fallback {issuer.fallback}"
        other = issuers.get(issuer.fallback)
        if other is None:
            yield f"{said} is not configured; known: {', '.join(sorted(issuers))}"
        elif _leads_back(name, issuers):
            yield f"{said} leads back to {name}; an issuer falls back to others only"
        elif issuer.trusted and not other.trusted:
            yield (
                f"{said} is not trusted by browsers, and {name} is; use one that is, or write "
                "trusted: false where that is wrong"
            )


def _leads_back(name: str, issuers: Mapping[str, Issuer]) -> bool:
    current = issuers[name].fallback
    for _ in issuers:
        if current is None or current == name or current not in issuers:
            break
        current = issuers[current].fallback
    return current == name


def _sentence(item: Any, content: Any) -> str:
    """What pydantic found wrong, by the issuer's name and in words of the file."""
    match item["loc"]:
        case ():
            return "a list is expected, such as [{name: own, directory: https://…}]"
        case (int(index), *words):
            place = ".".join(map(str, words))
            return f"{_called(content[index], index)}: {_problem(item, place)}"
    return str(item["msg"])


def _called(content: Any, index: int) -> str:
    name = content.get("name") if isinstance(content, dict) else None
    return f"issuer {name}" if isinstance(name, str) else f"item {index + 1}"


def _problem(item: Any, place: str) -> str:
    match item["type"]:
        case "extra_forbidden":
            return _unknown(item["loc"], place)
        case "missing":
            return f"{place} is missing"
        case "value_error":
            problem = str(item["msg"]).removeprefix("Value error, ")
        case "model_type" | "dict_type":
            problem = f"{item['input']!r} is not a mapping of words to values"
        case "string_type":
            problem = f"{item['input']!r} is not a text; put it in quotes"
        case "string_too_short":
            problem = "it is empty; leave it out, or say it"
        case _:
            problem = f"{item['input']!r}: {item['msg']}"
    return f"{place}: {problem}" if place else problem


def _unknown(loc: tuple[int | str, ...], place: str) -> str:
    """An unknown word is named without its value: it may be a key that strayed here."""
    known = [to_camel(field) for field in _words_at(loc).model_fields]
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    advice = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    return f"{place} is an unknown word; {advice}"


def _words_at(loc: tuple[int | str, ...]) -> type[Words]:
    """Of what mapping a word is that stands at a place of the file."""
    match loc[1:-1]:
        case ["limits"]:
            return LimitsWords
        case ["limits", _]:
            return LimitWords
        case ["externalAccount"]:
            return ExternalAccountWords
        case ["profiles", _]:
            return ProfileWords
    return IssuerEntry


def _raise(mistakes: Iterable[str]) -> None:
    found = list(mistakes)
    if found:
        raise ValueError("; ".join(found))
