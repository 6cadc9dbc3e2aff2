"""Proxies and certificates of the environment: taken where they concern the server, and never in its way otherwise."""

import asyncio
from collections.abc import Callable
from typing import Any

import certifi
import httpx
import pytest

from eventlog import AsyncEventLogClient, EventLogClient
from eventlog.client import address
from eventlog.errors import InvalidInput

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


def opened(url: str) -> None:
    EventLogClient(url).close()
    asyncio.run(AsyncEventLogClient(url).close())


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def given(**variables: str) -> None:
        for name in PROXIES:
            for spelt in (name, name.lower()):
                monkeypatch.delenv(spelt, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        address._tls.cache_clear()

    return given


ODD = [
    {"SSL_CERT_FILE": "/gone/cacert.pem"},
    {"SSL_CERT_DIR": "/gone", "SSLKEYLOGFILE": "/gone/keys"},
    {"HTTPS_PROXY": "no proxy at all", "https_proxy": "foo://"},
    {"ALL_PROXY": "socks5://127.0.0.1:1", "NO_PROXY": "*"},
    {"ALL_PROXY": "socks5h://127.0.0.1:1", "NO_PROXY": "logs.example"},
    {"HTTP_PROXY": "nonsense://x", "NO_PROXY": ".example, ::1/128, [fe80::1], 10.0.0.0/8,,http://x"},
]


@pytest.mark.parametrize("variables", ODD)
@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://localhost:1/base", "http://[::1]:1", "http://logs.example:80"]
)
def test_what_a_server_does_not_need_is_not_in_its_way(environ: Any, variables: dict[str, str], url: str) -> None:
    environ(**variables)
    opened(url)


@pytest.mark.parametrize(
    ("variables", "url", "name"),
    [
        ({"SSL_CERT_FILE": "/gone/cacert.pem"}, "https://127.0.0.1:1", "SSL_CERT_FILE"),
        ({"SSL_CERT_FILE": __file__}, "https://127.0.0.1:1", "SSL_CERT_FILE"),
        ({"SSL_CERT_DIR": "/gone"}, "https://logs.example", "SSL_CERT_DIR"),
        ({"SSLKEYLOGFILE": "/gone/keys"}, "https://logs.example", "SSLKEYLOGFILE"),
        ({"SSL_CERT_FILE": "/gone", "HTTP_PROXY": "https://p.example"}, "http://logs.example", "SSL_CERT_FILE"),
        ({"ALL_PROXY": "socks5://127.0.0.1:1"}, "http://logs.example", "ALL_PROXY"),
        ({"HTTP_PROXY": "nonsense://u:secret@x", "NO_PROXY": "other.example"}, "http://logs.example", "HTTP_PROXY"),
        ({"HTTPS_PROXY": "http://x:port"}, "https://logs.example", "HTTPS_PROXY"),
    ],
)
def test_what_it_needs_and_cannot_use_is_named(environ: Any, variables: dict[str, str], url: str, name: str) -> None:
    environ(**variables)
    with pytest.raises(InvalidInput) as refused:
        opened(url)
    assert refused.value.field == name
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({"HTTP_PROXY": "p.example:3128"}, "http://logs.example", "http://p.example:3128"),
        ({"HTTP_PROXY": "http://p.example"}, "https://logs.example", None),
        ({"ALL_PROXY": "http://p.example"}, "https://logs.example", "http://p.example"),
        ({"ALL_PROXY": "http://p.example", "NO_PROXY": "example"}, "https://logs.example", None),
        ({"ALL_PROXY": "http://p.example", "NO_PROXY": "logs.example:8707"}, "http://logs.example:8707", None),
        ({"ALL_PROXY": "http://p.example"}, "http://127.0.0.1:8707", None),
    ],
)
def test_the_proxy_is_the_one_for_the_server(environ: Any, variables: Any, url: str, proxy: str | None) -> None:
    environ(**variables)
    assert address._proxy(httpx.URL(url))[1] == proxy


def test_certificates_are_read_for_https(environ: Any) -> None:
    environ()
    opened("https://127.0.0.1:1")
    environ(SSL_CERT_FILE=certifi.where())
    opened("https://127.0.0.1:1")
