"""The HTTP server: `run` serves until a signal, `background` serves beside other work, `create_app` is the ASGI app."""

from eventlog.extras import imports_of

with imports_of("server", "the HTTP server"):
    from .app import create_app
    from .serving import AddressUnavailable, background, run
from .settings import ServerSettings

__all__ = ["AddressUnavailable", "ServerSettings", "background", "create_app", "run"]
