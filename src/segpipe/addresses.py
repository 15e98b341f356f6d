"""Removes secrets from addresses before they are shown, and splits a server's address into address and login.

All text that leaves the process goes through `redact`: messages of errors, lines of the log and of commands, files that
are kept with a run.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit, urlunsplit

HIDDEN = "..."
LOOPBACK = ("127.0.0.1", "localhost")
# Passwords are often written with characters that should be encoded. So everything up to the last @ counts as secret,
# unless a port follows the colon.
_USER = r"(?:[^\s/?#@:\"<>`]*:(?!\d*(?:[/?#\s\"<>`]|$))[^\s\"<>`]*@|[^\s/?#@:\"<>`]*@)"
# `#/` begins the part of an address that names a page of MLflow or Prefect.
# The length of the scheme is bounded: otherwise a megabyte of letters would take quadratic time.
_ADDRESS = re.compile(
    rf"([A-Za-z][A-Za-z0-9+.-]{{0,30}}://){_USER}?([^\s?#\"<>`]*(?:#/[^\s?\"<>`]*)?)([?#][^\s\"<>`]*)?",
)
# An address that a library prints without its server: `/bucket/key?X-Amz-Signature=...`.
_PATH = re.compile(r"((?<![^\s\"'(=:])/[^\s?#\"'<>`]*\?)[\w.%-]+=[^\s\"'<>`]*")
_END_OF_SENTENCE = re.compile(r"[)\]}'.,;:]+$")
_NO_PORT = re.compile(rf"[^/@:\[\]]*:(?!\d*(?:/|$|{_END_OF_SENTENCE.pattern}))[^@]*")


def redact(text: str) -> str:
    """Gives a text without the users, passwords, queries and fragments of the addresses in it.

    >>> redact("https://me:secret@host/a.zip?token=1 is not there")
    'https://host/a.zip?... is not there'
    """
    if "://" in text:
        text = _ADDRESS.sub(_redact_one, text)
    return _PATH.sub(rf"\1{HIDDEN}", text) if "?" in text else text


def _redact_one(found: re.Match[str]) -> str:
    scheme, place, query = found.group(1), found.group(2), found.group(3)
    if _NO_PORT.match(place) and not place.startswith("/"):  # the beginning of a password that holds a quote or blank
        place = HIDDEN
    if not query or query.startswith(f"?{HIDDEN}"):
        return scheme + place + (query or "")
    end = _END_OF_SENTENCE.search(query)
    return f"{scheme}{place}?{HIDDEN}{end.group() if end else ''}"


def spare_loopback(environment: Mapping[str, str]) -> dict[str, str]:
    """Gives the variables by which no request to this machine goes to a proxy, which would see its login.

    Args:
        environment: may say already what a proxy is not for, in `no_proxy` or `NO_PROXY`.
    """
    given = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    hosts = given if given == "*" else ",".join(dict.fromkeys([*filter(None, given.split(",")), *LOOPBACK]))
    return {"no_proxy": hosts, "NO_PROXY": hosts}


@dataclass(frozen=True)
class Login:
    """The address of a server, with user and password.

    Attributes:
        address: without user and password.
        user: '' for none.
        password: '' for none.
    """

    address: str
    user: str = ""
    password: str = ""


def split_login(address: str) -> Login:
    """Takes user and password out of the address of a web server.

    Args:
        address: as in `https://USER:PASSWORD@HOST`, both percent-encoded.

    Raises:
        ValueError: the address cannot be read; the message says how to write it.
    """
    try:
        parts = urlsplit(address)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        has_host = False
    if not has_host or "@" in parts.path:
        raise ValueError(
            f"{redact(address)}: is no address of a server; write https://USER:PASSWORD@HOST, and in the password %2F "
            "for /, %40 for @, %3A for :, %23 for #, %3F for ? and %25 for %"
        )
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    host = parts.netloc.rpartition("@")[2]
    return Login(urlunsplit(parts._replace(netloc=host)), unquote(user), unquote(password))
