"""What a reload says of two configurations: what takes effect now, and what needs a restart."""

from __future__ import annotations

from msgspec import structs

from gateway.config.changes import changes
from gateway.config.model import Auth, Clients, Config, History, Ingest, Role
from gateway.config.settings import settings


def test_a_setting_takes_effect_exactly_if_the_model_says_so() -> None:
    """One by one: each setting that may change is new in the result, each other one is as before, and is named."""
    old = Config()
    for setting in settings():
        if setting.key in Auth.SOURCES or setting.key.removeprefix("auth.") in Auth.SOURCES:
            continue
        section, _, name = setting.key.rpartition(".")
        value = object()
        inner = structs.replace(getattr(old, section) if section else old, **{name: value})
        new = structs.replace(old, **{section: inner}) if section else inner

        found = changes(old, new)

        result = getattr(getattr(found.config, section) if section else found.config, name)
        assert setting.live is (result is value)
        assert ((setting.key,), ()) == (found.live, found.restart) if setting.live else found.restart == (setting.key,)


def test_authentication_is_neither_enabled_nor_disabled() -> None:
    off, on = Config(), Config(auth=Auth(secret_file="a"))

    for old, new in ((off, on), (on, off)):
        assert changes(old, new).restart == ("auth.secret_file",)
        assert changes(old, new).config.auth == old.auth


def test_another_kind_of_key_takes_effect() -> None:
    old, new = Config(auth=Auth(secret_file="a")), Config(auth=Auth(jwks_url="https://b"))

    found = changes(old, new)

    assert found.live == ("auth.secret_file", "auth.jwks_url")
    assert found.config == new


def test_a_channel_of_its_own_is_named_with_its_settings() -> None:
    """A channel that had no table is compared with [history], and one that has none any more, too."""
    old = Config(channels={"logs": History(events_max=5)})
    new = Config(channels={"robots": History(events_max=7, typed=False)})

    found = changes(old, new)

    assert found.live == ("channels.logs.events_max", "channels.robots.events_max")
    assert found.restart == ("channels.robots.typed",)
    assert found.config.channels == {"logs": History(), "robots": History(events_max=7)}


def test_roles_are_named_as_a_whole() -> None:
    old = Config()
    new = structs.replace(old, roles=old.roles | {"bot": Role(), "new": Role()})

    assert changes(old, new).live == ("roles.bot", "roles.new")


def test_what_is_mixed_is_used_as_far_as_it_may_change() -> None:
    new = Config(clients=Clients(connections_max=5, heartbeat_seconds=1), ingest=Ingest(nesting_max=9))

    found = changes(Config(), new)

    assert found.config.clients == Clients(connections_max=5)
    assert found.restart == ("ingest.nesting_max", "clients.heartbeat_seconds")


def test_a_file_that_has_secrets_from_now_on_is_no_setting_that_changed() -> None:
    files = {"auth.secret": "gateway.toml"}
    found = changes(Config(), Config(secret_files=files))

    assert ((), (), files) == (found.live, found.restart, found.config.secret_files)
