"""The TLS certificate, reloaded when its files change."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from gateway.config.errors import ConfigError, Problem
from gateway.config.model import Tls
from gateway.runtime.logs import logger


log = logger("gateway.tls")


class Certificate:
    """The configured certificate; its `context` is None if none is configured."""

    def __init__(self, settings: Tls) -> None:
        self._settings = settings
        self._stamps = [_stamp(settings.cert_file), _stamp(settings.key_file)]
        self.context = _read_all(settings) if settings.cert_file else None
        self.expires = _expires(settings) if settings.cert_file else None
        """Unix time."""

    def refresh(self) -> None:
        """Reload the files if they have changed; if the new ones cannot be used, the old ones stay."""
        if self.context is None:
            return
        settings = self._settings
        stamps = [_stamp(settings.cert_file), _stamp(settings.key_file)]
        if stamps == self._stamps:
            return
        self._stamps = stamps  # so that each change is logged once
        try:
            self.context = _read_all(settings)
        except ConfigError as error:
            log.warning("certificate_not_reloaded", reason=str(error))
        else:
            self.expires = _expires(settings)
            log.info("certificate_reloaded", file=settings.cert_file)


def context(settings: Tls) -> ssl.SSLContext:
    """Return an SSL context with the configured certificate, for TLS 1.2 and later.
    Raises ConfigError: the files cannot be used."""
    cert, key = settings.cert_file, settings.key_file
    if "-----BEGIN CERTIFICATE-----" not in _read("cert_file", cert):
        raise _wrong("cert_file", f"{cert} has no certificate in PEM", "name a file that has one")
    text = _read("key_file", key)
    if "PRIVATE KEY-----" not in text:
        raise _wrong("key_file", f"{key} has no private key in PEM", "name a file that has one")
    if "ENCRYPTED" in text:
        raise _wrong("key_file", f"{key} is encrypted", "decrypt it with `openssl pkey`")
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_RENEGOTIATION
    made.set_alpn_protocols(["http/1.1"])
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        made.load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        if reason == "KEY_VALUES_MISMATCH":
            wrong = _wrong("key_file", f"{key} is not the key of {cert}", "name the matching key")
        else:
            reason = f"OpenSSL cannot use {cert} with {key}: {reason}"
            wrong = _wrong("cert_file", reason, "create new files")
        raise wrong from error
    return made


def warnings(settings: Tls) -> Iterator[str]:
    """Yield why clients will refuse a certificate that can be used."""
    leaf = _leaf(settings)
    if leaf is None:
        return  # `context` reports what cannot be read
    now, key = datetime.now(UTC), f"tls.cert_file: {settings.cert_file}"
    if now >= leaf.not_valid_after_utc:
        yield f"{key} expired at {leaf.not_valid_after_utc}"
    if now < leaf.not_valid_before_utc:
        yield f"{key} is not valid before {leaf.not_valid_before_utc}"


def _leaf(settings: Tls) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(Path(settings.cert_file).read_bytes())
    except (OSError, ValueError):
        return None


def _expires(settings: Tls) -> float | None:
    leaf = _leaf(settings)
    return None if leaf is None else leaf.not_valid_after_utc.timestamp()


def _read_all(settings: Tls) -> ssl.SSLContext:
    made = context(settings)
    for warning in warnings(settings):
        log.warning("certificate_warning", reason=warning)
    return made


def _read(setting: str, path: str) -> str:
    try:
        return Path(path).read_text("latin-1")
    except OSError as error:
        reason = f"{path} cannot be read ({error.strerror})"
        raise _wrong(setting, reason, "check its path and permissions") from error


def _wrong(setting: str, reason: str, remedy: str) -> ConfigError:
    return ConfigError([Problem(f"tls.{setting}", reason, remedy)])


def _stamp(path: str) -> tuple[int, int, int] | None:
    """Return what tells a file from its next version; None if there is no file."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
