"""What the URL of a Redis may say. redis-py reads it; what it would ignore, or stumble over later, is refused here."""

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from redis.exceptions import RedisError

from ..errors import InvalidInput

_FLAGS = ("decode_responses", "retry_on_timeout", "socket_keepalive", "ssl_check_hostname")
_FLAG_VALUES = frozenset({"true", "false", "t", "f", "yes", "no", "y", "n", "1", "0"})
# Deadlines, retries, the number of connections and the form of replies are the log's own: such options change nothing.
_OPTIONS = (
    *("db", "username", "password", "client_name", "lib_name", "lib_version", "protocol", "encoding"),
    *("encoding_errors", "decode_responses", "max_connections", "socket_timeout", "socket_connect_timeout"),
    *("socket_read_size", "health_check_interval", "retry_on_timeout"),
)
_TCP_OPTIONS = ("socket_keepalive",)
_TLS_OPTIONS = (
    *("ssl_ca_certs", "ssl_ca_data", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname"),
    *("ssl_ciphers", "ssl_keyfile", "ssl_min_version", "ssl_password"),
)
_KNOWN = {
    "redis": (*_OPTIONS, *_TCP_OPTIONS),
    "rediss": (*_OPTIONS, *_TCP_OPTIONS, *_TLS_OPTIONS),
    "unix": _OPTIONS,
}


def parsed_url(pool_class: Any, url: str) -> tuple[Any, dict[str, Any]]:
    """The class of connections to `url`, and their arguments. Raises `InvalidInput`, which never shows a password."""
    try:
        parts = urlsplit(url)
        _check_place(parts.scheme, parts.path, parts.fragment)
        _check_options(parts.scheme, parse_qsl(parts.query, keep_blank_values=True))
        pool = pool_class.from_url(url)
        kwargs = pool.connection_kwargs
        # It connects nowhere yet, but it looks at its arguments.
        pool.connection_class(**kwargs)
    except InvalidInput:
        raise
    except (ValueError, TypeError, RedisError) as error:
        raise InvalidInput("url", f"not a Redis URL (redis://, rediss:// or unix://): {error}") from error
    return pool.connection_class, kwargs


def check_url(url: str) -> None:
    """Raise `InvalidInput` if it is none that `parsed_url` takes."""
    from redis.connection import ConnectionPool

    parsed_url(ConnectionPool, url)


def _check_place(scheme: str, path: str, fragment: str) -> None:
    if scheme not in _KNOWN:
        raise InvalidInput("url", "not a Redis URL (redis://, rediss:// or unix://)")
    if fragment:
        raise InvalidInput("url", "has a '#'; within a name or a password write it as %23")
    if scheme == "unix":
        if not path:
            raise InvalidInput("url", "unix:// needs the path of a socket, such as unix:///run/redis.sock")
        return
    if path.strip("/"):
        _check_database(path.removeprefix("/"), "the path of the URL")


def _check_database(text: str, where: str) -> None:
    if not (text.isascii() and text.isdecimal()):
        raise InvalidInput("url", f"{where} is {text[:40]!r}; it names a database by its number, such as 0")


def _check_options(scheme: str, given: list[tuple[str, str]]) -> None:
    known = _KNOWN[scheme]
    names = [name for name, _ in given]
    for name, value in given:
        if name not in known:
            tls = name in _TLS_OPTIONS
            right = "TLS is rediss://" if tls else f"known are {', '.join(known)}"
            raise InvalidInput("url", f"unknown option {name[:64]!r} for {scheme}://; {right}")
        if names.count(name) > 1:
            raise InvalidInput("url", f"the option {name} is given more than once")
        if not value:
            raise InvalidInput("url", f"the option {name} has no value")
        if name in _FLAGS and value.lower() not in _FLAG_VALUES:
            raise InvalidInput("url", f"the option {name} is {value[:40]!r}; it is true or false")
        if name == "db":
            _check_database(value, "the option db")
