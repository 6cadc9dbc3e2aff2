"""Making logs: names of backends, the disabled one, closing."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventlog import (
    EventLogConfig,
    ObservabilityConfig,
    create_async_event_log,
    create_async_slot_queue,
    create_event_log,
    create_slot_queue,
)
from eventlog.errors import InvalidInput, LogClosed
from tests.contract.colours import Colour
from tests.contract.worlds import COLOURS, World

Opening = Callable[..., Colour]


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> Opening:
    return COLOURS[request.param]


@pytest.mark.parametrize("name", ["disabled", "off", "none", "OFF", "None"])
def test_a_disabled_log_answers_and_keeps_nothing(colour: Opening, name: str) -> None:
    log = colour(backend=name)
    assert log.backend == "disabled"
    events = [log.append("a", {"n": 1}, run_id="r"), *log.append_many([{"kind": "b"}] * 3), log.append("c")]
    assert [event.offset for event in events] == [1, 2, 3, 4, 5]
    assert sorted(events, key=lambda event: event.position) == events
    assert events[0].payload == {"n": 1}
    assert log.query() == log.query(0) == log.page().events == []
    assert log.page(events[2]).at_end
    assert log.verify().clean
    assert log.clear() == 0
    assert (log.info().length, log.info().last_offset, log.info().bytes) == (0, 5, 0)
    log.close()


def test_a_disabled_log_still_refuses_bad_input(colour: Opening) -> None:
    log = colour(backend="off")
    with pytest.raises(InvalidInput, match="kind"):
        log.append("not good!")
    with pytest.raises(InvalidInput, match="since"):
        log.query("abc")
    assert log.append("a").offset == 1
    log.close()


def test_an_unknown_backend_is_memory_with_a_warning(colour: Opening, caplog: pytest.LogCaptureFixture) -> None:
    log = colour(backend="kafka")
    assert log.backend == "memory"
    assert "kafka" in caplog.text
    event = log.append("a")
    assert log.query() == [event]
    log.close()


def test_a_known_backend_gives_no_warning(colour: Opening, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        colour(backend="memory").close()
        colour(backend="off").close()
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["", "a b", "a" * 65, "a/b", "{x}", "ä", "w\n"])
def test_a_bad_workspace_is_named(colour: Opening, name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        colour(workspace=name)
    assert refused.value.field == "workspace"


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "redis//x"])
def test_a_bad_url_is_named(colour: Opening, url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        colour(backend="redis", url=url)
    assert refused.value.field == "url"


@pytest.mark.parametrize(
    "open_", [create_event_log, create_async_event_log, create_slot_queue, create_async_slot_queue]
)
class TestBehindAServer:
    """Opening does not send anything, so no server has to be there."""

    @pytest.mark.parametrize("backend", [None, "http", "HTTP"])
    def test_the_url_of_a_server_opens_the_log_or_its_slots_through_it(self, open_: Any, backend: str | None) -> None:
        opened = open_(backend, url="HTTP://127.0.0.1:1", workspace="mine", deadline_seconds=2)
        assert (opened.backend, opened.workspace) == ("http", "mine")

    def test_workspace_and_deadline_come_from_a_config_too(self, open_: Any) -> None:
        config = EventLogConfig(workspace="mine", deadline_seconds=2)
        assert open_(url="http://127.0.0.1:1", config=config).workspace == "mine"

    def test_the_environment_names_the_workspace(self, open_: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EVENTLOG_WORKSPACE", "theirs")
        assert open_(url="https://127.0.0.1:1").workspace == "theirs"

    @pytest.mark.parametrize(
        "option",
        [{"ttl_seconds": 60}, {"max_entries": 5}, {"key_prefix": "p"}, {"telemetry_samples": 0}, {"redact": True}],
    )
    def test_what_the_server_decides_is_refused_by_name(self, open_: Any, option: dict[str, Any]) -> None:
        with pytest.raises(InvalidInput, match="for the server to decide") as refused:
            open_(url="http://127.0.0.1:1", **option)
        assert refused.value.field == next(iter(option))

    @pytest.mark.parametrize(
        "setting",
        [
            {"backend": "disabled"},
            {"redis_url": "redis://127.0.0.1:1"},
            {"data_dir": Path("/d")},
            {"key_prefix": "p"},
            {"max_entries": 5},
            {"ttl_seconds": 60},
            {"payload_max_bytes": 100},
            {"telemetry_samples": 0},
            {"refused_fields": ()},
            {"redact": True},
        ],
    )
    def test_what_the_server_decides_is_refused_in_a_config_too(self, open_: Any, setting: dict[str, Any]) -> None:
        config = EventLogConfig(workspace="mine", **setting)
        with pytest.raises(InvalidInput, match="for the server to decide") as refused:
            open_(url="http://127.0.0.1:1", config=config)
        assert refused.value.field == next(iter(setting))

    @pytest.mark.parametrize("backend", [None, "http"])
    def test_a_config_may_name_the_backend_http(self, open_: Any, backend: str | None) -> None:
        config = EventLogConfig(backend="HTTP", workspace="mine")
        assert open_(backend, url="http://127.0.0.1:1", config=config).workspace == "mine"

    @pytest.mark.parametrize(
        "rest",
        [
            *("?a=1", "?", "/p?a", "#f", "/#", ":65536", ":99999", ":0", ":-1", ":x", "/a b", " ", "\n"),
            *(".example .org", "/\t", ":80 /p"),
        ],
    )
    def test_what_the_url_of_a_server_cannot_mean_is_refused_at_once(self, open_: Any, rest: str) -> None:
        with pytest.raises(InvalidInput) as refused:
            open_(url=f"http://me:secret@log{rest}")
        assert refused.value.field == "url"
        assert "secret" not in str(refused.value)

    @pytest.mark.parametrize("rest", ["", "/", ":8707", ":65535/", "/behind/a/proxy", "/a%20b"])
    def test_the_url_of_a_server_has_a_host_a_port_and_a_path(self, open_: Any, rest: str) -> None:
        assert open_(url=f"http://log{rest}").backend == "http"

    @pytest.mark.parametrize("backend", ["redis", "memory", "disabled"])
    def test_another_backend_does_not_take_the_url_of_a_server(self, open_: Any, backend: str) -> None:
        with pytest.raises(InvalidInput, match=f"with the backend '{backend}'") as refused:
            open_(backend, url="http://127.0.0.1:1")
        assert refused.value.field == "url"

    @pytest.mark.parametrize("url", [None, "redis://127.0.0.1:1"])
    def test_a_server_needs_its_url(self, open_: Any, url: str | None) -> None:
        for given in ({"backend": "http"}, {"config": EventLogConfig(backend="http")}):
            with pytest.raises(InvalidInput, match="http://") as refused:
                open_(url=url, **given)
            assert refused.value.field == "url"


def test_without_a_backend_the_url_of_a_redis_opens_it(redis_server: Any, key_prefix: str) -> None:
    with create_event_log(url=redis_server.url, key_prefix=key_prefix) as log:
        assert log.backend == "redis"


def test_a_log_behind_a_server_gives_no_access_to_a_backend() -> None:
    for log in (create_event_log(url="http://127.0.0.1:1"), create_async_event_log(url="http://127.0.0.1:1")):
        with pytest.raises(InvalidInput, match=r"^log: is behind a server"):
            print(log.core)
        assert (log.connect, log.telemetry_capacity) == (None, None)


def test_slots_behind_a_server_refuse_what_needs_the_backend_itself() -> None:
    with create_slot_queue(url="http://127.0.0.1:1") as slots:
        for call in (
            lambda: slots.core,
            slots.tend,
            lambda: slots.queues_of("e"),
            lambda: slots.attach("build", "e"),
        ):
            with pytest.raises(InvalidInput, match=r"^slots: are behind a server"):
                call()
        with pytest.raises(InvalidInput, match="adopt"):
            slots.acquire("build", adopt=True)


def test_memory_does_not_take_the_url_of_a_redis(colour: Opening) -> None:
    with pytest.raises(InvalidInput, match="with the backend 'memory'") as refused:
        colour(backend="memory", url="redis://127.0.0.1:1")
    assert refused.value.field == "url"


CONFIG = EventLogConfig(backend="Memory", workspace="mine")


def test_what_says_the_same_as_the_config_may_stand_beside_it() -> None:
    with create_event_log("memory", config=CONFIG, workspace="mine") as log:
        assert log.workspace == "mine"


@pytest.mark.parametrize(
    "open_", [create_event_log, create_async_event_log, create_slot_queue, create_async_slot_queue]
)
@pytest.mark.parametrize(
    ("given", "theirs"),
    [
        ({"workspace": "other"}, "config.workspace"),
        ({"url": "redis://127.0.0.1:1"}, "config.redis_url"),
        ({"url": "http://127.0.0.1:1", "workspace": "other"}, "config.workspace"),
        ({"url": "http://127.0.0.1:1", "deadline_seconds": 2}, "config.deadline_seconds"),
        ({"max_entries": 5}, "config.max_entries"),
        ({"backend": "redis"}, "config.backend"),
    ],
)
def test_what_contradicts_a_config_is_refused_and_both_are_named(open_: Any, given: Any, theirs: str) -> None:
    with pytest.raises(InvalidInput, match=theirs) as refused:
        open_(config=CONFIG, **given)
    assert refused.value.field == list(given)[-1]


@pytest.mark.parametrize(
    "open_", [create_event_log, create_async_event_log, create_slot_queue, create_async_slot_queue]
)
class TestWhatIsNoSetting:
    @pytest.mark.parametrize("beside", [{}, {"config": CONFIG}, {"url": "http://127.0.0.1:1"}, {"backend": "memory"}])
    def test_the_url_of_redis_goes_by_another_name_in_code(self, open_: Any, beside: Any) -> None:
        with pytest.raises(InvalidInput, match=r"^redis_url: is given as url: pass it as url="):
            open_(redis_url="redis://127.0.0.1:1", **beside)

    @pytest.mark.parametrize("beside", [{}, {"config": CONFIG}])
    def test_a_misspelt_option_is_named(self, open_: Any, beside: Any) -> None:
        with pytest.raises(InvalidInput, match=r"^max_entrys: there is no setting of this name"):
            open_(max_entrys=5, **beside)

    @pytest.mark.parametrize("beside", [{"url": "http://h"}, {"url": "redis://h"}, {"config": EventLogConfig()}])
    def test_a_clock_is_for_memory(self, open_: Any, beside: Any) -> None:
        with pytest.raises(InvalidInput, match=r"^clock: is for the backend memory"):
            open_(clock=lambda: 0.0, **beside)

    @pytest.mark.parametrize(
        ("config", "right"),
        [
            (ObservabilityConfig(), "pass its .event_log"),
            ({"backend": "memory"}, "EventLogConfig(…)"),
            ("settings.toml", "EventLogConfig(…)"),
            (EventLogConfig, "EventLogConfig(…)"),
        ],
    )
    def test_what_is_no_config_is_refused_with_what_would_be_right(self, open_: Any, config: Any, right: str) -> None:
        for beside in ({}, {"url": "http://127.0.0.1:1"}, {"url": "redis://127.0.0.1:1"}):
            with pytest.raises(InvalidInput, match=re.escape(right)) as refused:
                open_(config=config, **beside)
            assert refused.value.field == "config"

    @pytest.mark.parametrize("url", ["http://h", "localhost:6379", "redis://h/main", "redis://h?foo=1", "unix://"])
    def test_a_bad_url_of_a_redis_is_named_by_its_variable(
        self, open_: Any, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EVENTLOG_REDIS_URL", url)
        with pytest.raises(InvalidInput) as refused:
            open_("redis")
        assert refused.value.field == "EVENTLOG_REDIS_URL"


def test_a_data_directory_that_is_given_is_not_overruled_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTLOG_REDIS_URL", "redis://127.0.0.1:1")
    assert EventLogConfig.load(data_dir="/d").redis_url is None
    with pytest.raises(InvalidInput, match="not both"):
        create_event_log(url="redis://127.0.0.1:1", data_dir="/d")


def test_a_config_alone_counts(colour: Opening) -> None:
    log = colour(config=EventLogConfig(backend="memory", workspace="mine", max_entries=2))
    log.append_many([{"kind": "a"}] * 5)
    assert (log.info().workspace, log.info().length) == ("mine", 2)
    log.close()


def test_workspaces_do_not_see_each_other(world: World) -> None:
    one, two = world.open(workspace="one"), world.open(workspace="two")
    one.append("a", run_id="r", idempotency_key="k")
    assert two.query() == []
    event = two.append("b", run_id="r", idempotency_key="k")
    assert (event.offset, event.seq, event.duplicate) == (1, 1, False)
    two.clear()
    assert [event.kind for event in one.query()] == ["a"]


def test_a_closed_log_refuses_every_call(world: World) -> None:
    log = world.open()
    log.append("a")
    log.shut()
    log.shut()
    for call in (lambda: log.append("a"), lambda: log.append_many([{"kind": "a"}]), log.query, log.page, log.info):
        with pytest.raises(LogClosed):
            call()
