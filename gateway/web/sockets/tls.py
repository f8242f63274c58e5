"""The gateway's certificate, read again when its files change."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from gateway.config.errors import ConfigError, Problem
from gateway.config.model import Tls
from gateway.logs import logger


log = logger("gateway.tls")

_Stamp = tuple[tuple[int, int, int] | None, ...]


class Certificate:
    """What connections are encrypted with: `context` is None if no files are configured."""

    def __init__(self, settings: Tls) -> None:
        """Read the files.

        Raises:
            ConfigError: They cannot be served.
        """
        self._settings = settings
        self._stamp = _stamp(settings)
        self.context = _read_all(settings) if settings.cert_file else None

    def refresh(self) -> None:
        """Read the files again if they have changed; if they cannot be served the old ones stay."""
        if self.context is None:
            return
        stamp = _stamp(self._settings)
        if stamp == self._stamp:
            return
        self._stamp = stamp  # so that each state of the files is spoken of once
        try:
            self.context = _read_all(self._settings)
        except ConfigError as error:
            log.warning("certificate_not_reloaded", reason=str(error))
        else:
            log.info("certificate_reloaded", file=self._settings.cert_file)


def context(settings: Tls) -> ssl.SSLContext:
    """Return what serves the configured certificate, to TLS 1.2 and later.

    Raises:
        ConfigError: The files cannot be served.
    """
    cert, key = settings.cert_file, settings.key_file
    if "-----BEGIN CERTIFICATE-----" not in _read("cert_file", cert):
        raise _wrong("cert_file", f"{cert} holds no certificate in PEM", "name one that does")
    text = _read("key_file", key)
    if "PRIVATE KEY-----" not in text:
        raise _wrong("key_file", f"{key} holds no private key in PEM", "name one that does")
    if "ENCRYPTED" in text:
        raise _wrong("key_file", f"{key} is encrypted", "`openssl pkey` makes one that is not")
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_RENEGOTIATION
    made.set_alpn_protocols(["http/1.1"])
    try:
        made.load_cert_chain(cert, key, password=lambda: "")  # or OpenSSL asks the terminal
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        if reason == "KEY_VALUES_MISMATCH":
            raise _wrong("key_file", f"{key} is not the key of {cert}", "name its own") from error
        raise _wrong(
            "cert_file", f"OpenSSL does not take {cert} with {key}: {reason}", "make them anew"
        ) from error
    return made


def warnings(settings: Tls) -> Iterator[str]:
    """Why clients will refuse a certificate that can be served."""
    try:
        leaf = x509.load_pem_x509_certificate(Path(settings.cert_file).read_bytes())
    except (OSError, ValueError):
        return  # what can be served is for OpenSSL to say
    now, key = datetime.now(UTC), f"tls.cert_file: {settings.cert_file}"
    if now >= leaf.not_valid_after_utc:
        yield f"{key} expired at {leaf.not_valid_after_utc}"
    if now < leaf.not_valid_before_utc:
        yield f"{key} is valid from {leaf.not_valid_before_utc} on"


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
        raise _wrong(setting, reason, "see where it is and whose") from error


def _wrong(setting: str, reason: str, remedy: str) -> ConfigError:
    return ConfigError([Problem(f"tls.{setting}", reason, remedy)])


def _stamp(settings: Tls) -> _Stamp:
    return tuple(map(_state, (settings.cert_file, settings.key_file)))


def _state(path: str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
