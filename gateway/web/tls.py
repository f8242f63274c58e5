"""The gateway's certificate, read again when its files change."""

import ssl
import time
from pathlib import Path

from gateway.config.model import Tls
from gateway.logs import logger


log = logger("gateway.tls")

Stamp = tuple[tuple[int, int, int], ...]


class TlsError(Exception):
    """The files make no certificate that can be served; the text names the setting."""


class Certificate:
    """What TLS connections are made with: nothing, if no files are configured."""

    def __init__(self, settings: Tls) -> None:
        """Read the files.

        Raises:
            TlsError: They cannot be served.
        """
        self._settings = settings
        self._stamp: Stamp = ()
        self.context: ssl.SSLContext | None = None
        if settings.cert_file:
            self._stamp = _stamp(settings)
            self.context = context(settings)

    def refresh(self) -> None:
        """Read the files again if they changed; what cannot be served changes nothing."""
        if self.context is None:
            return
        try:
            stamp = _stamp(self._settings)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self.context = context(self._settings)
        except TlsError as error:
            # Said once for each state of the files: between two renames they may not fit.
            if self._stamp:
                log.warning("certificate not replaced", reason=str(error))
            self._stamp = ()
        else:
            log.info("certificate replaced", file=self._settings.cert_file)
