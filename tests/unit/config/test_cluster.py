"""The address of a cluster's engine, and what is wrong with one."""

from __future__ import annotations

import pytest

from gateway.config import ConfigError, load
from gateway.config.cluster import Address, parse_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host", Address((("host", 6379),))),
        ("valkeys://host:1/2", Address((("host", 1),), database=2, tls=True)),
        ("redis://:p%40ss@[::1]:7", Address((("::1", 7),), password="p@ss")),
        ("rediss://me:x@host/3", Address((("host", 6379),), database=3, tls=True, user="me", password="x")),
        ("redis+sentinel://a,b:1/main", Address((("a", 26379), ("b", 1)), service="main")),
        (
            "rediss+sentinel://u:p@a/main/4?sentinel_password=s",
            Address((("a", 26379),), "main", 4, tls=True, user="u", password="p", sentinel_password="s"),
        ),
    ],
)
def test_a_url_says_where_the_engine_is(url: str, expected: Address) -> None:
    assert expected == parse_url(url)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://host", "does not begin with"),
        ("redis://:secret@", "names no host"),
        ("redis://:secret@a,b", "several servers"),
        ("redis://:secret@a:99999", "port"),
        ("redis://:secret@a/name", "database"),
        ("redis://:secret@a?x=1", "parameters"),
        ("redis+sentinel://:secret@a", "names no service"),
        ("redis://[:secret", "is not a URL"),
    ],
)
def test_a_wrong_url_is_reported_without_it(url: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {}, {"cluster.url": url})

    assert problem in str(caught.value)
    assert str(caught.value).startswith("cluster.url: ")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        ({"cluster.password_file": "x"}, "cluster.password_file"),
        ({"cluster.ca_file": "x"}, "cluster.ca_file"),
        ({"cluster.url": "redis://:a@b", "cluster.password_file": "x"}, "cluster.password_file"),
        ({"cluster.url": "redis://a", "cluster.ca_file": "x"}, "cluster.ca_file"),
        ({"cluster.url": "redis://a", "cluster.prefix": "a b"}, "cluster.prefix"),
    ],
)
def test_settings_that_contradict_each_other_are_named(flags: dict[str, str | list[str]], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {}, flags)

    assert str(caught.value).startswith(f"{key}: ")


def test_an_address_is_shown_without_secrets() -> None:
    address = parse_url("redis+sentinel://user:secret@[::1],b:1/main?sentinel_password=hidden")

    assert "[::1]:26379,b:1/main" == str(address) == repr(address)
