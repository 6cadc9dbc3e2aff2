"""What the URL of a Redis may say: what cannot be meant is refused when a log is opened, with what would be right."""

import pytest

from eventlog import create_async_event_log, create_event_log, create_slot_queue
from eventlog.errors import InvalidInput
from eventlog.store.links import AsyncLink, SyncLink


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("redis://h/0?foo=bar", "client_name"),
        ("redis://h/0?socket_timout=1", "socket_timeout"),
        ("redis://h/0?family=0", "unknown option 'family'"),
        ("redis://h/0?timeout=20", "unknown option 'timeout'"),
        ("redis://h/0?host=other", "unknown option 'host'"),
        ("redis://h/0?ssl_cert_reqs=none", "TLS is rediss://"),
        ("rediss://h/0?ssl_cert_reqs=perhaps", "perhaps"),
        ("rediss://h/0?ssl_cert_req=none", "ssl_cert_reqs"),
        ("unix:///s?socket_keepalive=true", "unknown option 'socket_keepalive'"),
        ("redis://h/0?socket_timeout=soon", "socket_timeout"),
        ("redis://h/0?max_connections=many", "max_connections"),
        ("redis://h/0?decode_responses=maybe", "true or false"),
        ("redis://h/0?protocol=9", "protocol"),
        ("redis://h/0?db=", "no value"),
        ("redis://h?db=1&db=2", "more than once"),
        ("redis://h?db=-1", "number"),
        ("redis://h/main", "number"),
        ("redis://h/-1", "number"),
        ("redis://h/0/1", "number"),
        ("redis://:p#w@h/0", "%23"),
        ("redis://h:port/0", "port"),
        ("unix://", "socket"),
        ("rdis://h/0", "redis://"),
    ],
)
def test_what_a_url_cannot_mean_is_refused_with_what_would_be_right(url: str, word: str) -> None:
    for link in (SyncLink, AsyncLink):
        with pytest.raises(InvalidInput) as caught:
            link(url)
        assert caught.value.field == "url"
        assert word in str(caught.value)


def test_a_bad_url_is_refused_when_a_log_or_slots_are_opened() -> None:
    for opened in (create_event_log, create_async_event_log, create_slot_queue):
        with pytest.raises(InvalidInput, match="known are"):
            opened("redis", url="redis://h/0?foo=bar")


def test_a_refused_url_does_not_show_its_password() -> None:
    for url in ("redis://app:secret@h/0?foo=bar", "redis://app:secret@h/main", "redis://app:secret@h:port/0"):
        with pytest.raises(InvalidInput) as caught:
            SyncLink(url)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h/",
        "redis://h/3",
        "redis://u:p%23@[::1]:6380/0?client_name=me&protocol=3&decode_responses=True&max_connections=5",
        "redis://h/0?socket_timeout=1.5&socket_connect_timeout=2&health_check_interval=30&socket_keepalive=1",
        "rediss://h/0?ssl_cert_reqs=none&ssl_check_hostname=false",
        "unix:///tmp/s?db=2",
    ],
)
def test_what_redis_clients_know_is_taken(url: str) -> None:
    SyncLink(url).close()
