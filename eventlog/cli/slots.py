"""`eventlog slots`: the queues as operators see them, and slots for scripts that hold one across several commands."""

from typing import Annotated, Any

import orjson
import typer

from ..errors import InvalidInput, NotFound
from ..printing.escape import escaped
from ..printing.output import Format, note, put
from ..slots.policy import Policy, Rate, Scope
from ..slots.protocol import QueueStats
from .options import DataDir, Output, Url, Workspace
from .tables import put_table
from .target import open_slots

app = typer.Typer(
    help="Queues of actions: who holds a slot, who waits, what limits them.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Action = Annotated[str, typer.Argument(help="What is competed for: an action, or a queue as ACTION/GROUP.")]
Execution = Annotated[str, typer.Argument(metavar="EXECUTION_ID", help="Who holds a slot, or waits.")]
Group = Annotated[str | None, typer.Option("--group", help="The queue of this group of the action.")]
Token = Annotated[
    int | None, typer.Option("--fencing-token", help="Only the slot that was granted with it.", show_default="any")
]


@app.command("ls")
def list_queues(
    output: Output = Format.text, workspace: Workspace = None, url: Url = None, data_dir: DataDir = None
) -> None:
    """List the queues that were used within the last week."""
    with open_slots(url, workspace, data_dir) as slots:
        found = slots.queues()
    if output is Format.json:
        for stats in found:
            put(orjson.dumps(stats.to_dict()))
    else:
        put_table(["QUEUE", "HELD", "WAITING", "LONGEST"], [_row(stats) for stats in found])


@app.command("show")
def show(
    action: Action,
    group: Group = None,
    output: Output = Format.text,
    workspace: Workspace = None,
    url: Url = None,
    data_dir: DataDir = None,
) -> None:
    """Show one queue: its limits, who holds a slot and who waits."""
    with open_slots(url, workspace, data_dir) as slots:
        stats = slots.stats(_action(action), group_key=_group(action, group))
    if output is Format.json:
        put(orjson.dumps(stats.to_dict()))
        return
    put(f"{_name(stats)}: {_held(stats)} held, {stats.queue_length} waiting; limits: {_limits(stats.policy)}")
    totals = {
        "acquired or queued": stats.total_enqueued,
        "completed": stats.total_completed,
        "expired": stats.total_expired,
        "timed out": stats.total_timed_out,
        "cancelled": stats.total_cancelled,
    }
    put("so far: " + ", ".join(f"{count} {what}" for what, count in totals.items()))
    held = [
        [
            holder.execution_id,
            f"held for {stats.time - holder.granted_at:.1f} s",
            f"lease {holder.lease_expires_at - stats.time:.1f} s",
            f"token {holder.fencing_token}",
            holder.owner or "",
        ]
        for holder in stats.holders
    ]
    waiting = [
        [
            waiter.execution_id,
            f"waits for {stats.time - waiter.enqueued_at:.1f} s",
            f"position {waiter.position}",
            "",
            waiter.owner or "",
        ]
        for waiter in stats.waiters
    ]
    put_table([], held + waiting)
    unlisted = stats.active_count + stats.queue_length - len(held) - len(waiting)
    if unlisted:
        note(f"--- {unlisted} more are not listed ---")


@app.command("acquire")
def acquire(
    action: Action,
    execution_id: Execution,
    max_concurrent: Annotated[
        int | None, typer.Option(help="The limit, where no policy says. [default: the last that was named]")
    ] = None,
    lease: Annotated[float, typer.Option(help="Seconds that the slot is held for, unless it is renewed.")] = 30.0,
    timeout: Annotated[
        float | None, typer.Option(help="Wait at most so many seconds; 0 does not. [default: 3600]")
    ] = None,
    group: Group = None,
    pack: Annotated[str | None, typer.Option(help="Whose policy counts if the action has none.")] = None,
    output: Output = Format.text,
    workspace: Workspace = None,
    url: Url = None,
    data_dir: DataDir = None,
) -> None:
    """Wait for a slot and print its fencing token. It stays held after this command, until its lease ends.

    `eventlog slots renew` prolongs it, `eventlog slots release` gives it back. To run one command under a slot,
    `eventlog exec` does all of that. Without a slot in time the exit code is 75.
    """
    with open_slots(url, workspace, data_dir) as slots:
        slot = slots.acquire(
            _action(action),
            execution_id,
            max_concurrent=max_concurrent,
            lease_s=lease,
            timeout_s=timeout,
            group_key=_group(action, group),
            pack=pack,
        )
        # From here on nobody renews it but who asked for it.
        slot.renew(lease)
        state = slots.state(_action(action), execution_id, group_key=_group(action, group))
    put(orjson.dumps(state.to_dict()) if output is Format.json else str(slot.fencing_token))


@app.command("renew")
def renew(
    action: Action,
    execution_id: Execution,
    fencing_token: Token = None,
    lease: Annotated[float | None, typer.Option(help="Seconds from now on. [default: as before]")] = None,
    group: Group = None,
    workspace: Workspace = None,
    url: Url = None,
    data_dir: DataDir = None,
) -> None:
    """Let the lease on a slot begin anew, and print for how many seconds it stands. Exits 1 if it was lost."""
    with open_slots(url, workspace, data_dir) as slots:
        state = slots.renew(
            _action(action), execution_id, fencing_token=fencing_token, lease_s=lease, group_key=_group(action, group)
        )
    assert state.lease_expires_at is not None
    put(f"{state.lease_expires_at - state.time:.1f}")


@app.command("release")
def release(
    action: Action,
    execution_id: Execution,
    fencing_token: Token = None,
    group: Group = None,
    workspace: Workspace = None,
    url: Url = None,
    data_dir: DataDir = None,
) -> None:
    """Give a slot back, or leave the line. Where there is neither, nothing happens."""
    with open_slots(url, workspace, data_dir) as slots:
        held = slots.release(
            _action(action), execution_id, fencing_token=fencing_token, group_key=_group(action, group)
        )
    put("released" if held else "held no slot")


@app.command("cancel")
def cancel(
    action: Action,
    execution_id: Execution,
    group: Group = None,
    workspace: Workspace = None,
    url: Url = None,
    data_dir: DataDir = None,
) -> None:
    """Take an execution out of the line. One that holds a slot keeps it."""
    with open_slots(url, workspace, data_dir) as slots:
        waited = slots.cancel(_action(action), execution_id, group_key=_group(action, group))
    put("cancelled" if waited else "did not wait")


@app.command("limit")
def limit(
    action: Action,
    max_concurrent: Annotated[str, typer.Argument(metavar="N|none", help="How many may hold a slot at once.")],
    group: Group = None,
    workspace: Workspace = None,
    url: Url = None,
    data_dir: DataDir = None,
) -> None:
    """Set a queue's own limit, above all policies. Raised, it hands slots out at once; lowered, it takes none away."""
    count = None if max_concurrent == "none" else _count("max_concurrent", max_concurrent)
    with open_slots(url, workspace, data_dir) as slots:
        slots.set_limit(_action(action), count, group_key=_group(action, group))


@app.command("policy")
def policy(
    scope: Annotated[
        str | None, typer.Argument(metavar="[global|pack/PACK|action/ACTION]", help="Nothing lists all policies.")
    ] = None,
    max_concurrent: Annotated[int | None, typer.Option(help="How many may hold a slot at once.")] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="COUNT/SECONDS", help="Grants in any stretch of so many seconds.")
    ] = None,
    quota: Annotated[
        str | None, typer.Option(metavar="COUNT/SECONDS", help="Grants in each window of so many seconds.")
    ] = None,
    max_queue_length: Annotated[int | None, typer.Option(help="How many may wait.")] = None,
    queue_timeout: Annotated[float | None, typer.Option(help="Seconds that one may wait.")] = None,
    log: Annotated[bool | None, typer.Option("--log/--no-log", help="Whether slot.* events are logged.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the policy.")] = False,
    output: Output = Format.text,
    workspace: Workspace = None,
    url: Url = None,
    data_dir: DataDir = None,
) -> None:
    """List policies, show one, or set one: with limits given, they are the whole policy of SCOPE from now on.

    For each limit the most specific policy that has it counts: action, then pack, then global, then the caller's.
    """
    limits = {
        "max_concurrent": max_concurrent,
        "rate_limit": None if rate is None else _rate("rate", rate),
        "quota": None if quota is None else _rate("quota", quota),
        "max_queue_length": max_queue_length,
        "queue_timeout_seconds": queue_timeout,
        "log_transitions": log,
    }
    given = any(value is not None for value in limits.values())
    if remove and given:
        raise InvalidInput("remove", "takes no limits beside it")
    if scope is None and (remove or given):
        raise InvalidInput("scope", "is needed: global, pack/PACK or action/ACTION")
    wanted = None if scope is None else Scope.parse(scope)
    with open_slots(url, workspace, data_dir) as slots:
        if scope is not None and remove:
            slots.delete_policy(scope)
            return
        if scope is not None and given:
            slots.put_policy(scope, Policy.of(**limits))
        found = {key: stored for key, stored in slots.policies().items() if wanted in (None, key)}
    if wanted is not None and not found:
        raise NotFound(f"there is no policy for {wanted}")
    for key, stored in sorted(found.items()):
        if output is Format.json:
            put(orjson.dumps({"scope": str(key), "version": stored.version, **stored.policy.to_dict()}))
        else:
            put(escaped(f"{key}: {_limits(stored.policy)}"))


@app.command("reset")
def reset(
    action: Annotated[str | None, typer.Argument(help="The queue to empty.")] = None,
    group: Group = None,
    everything: Annotated[bool, typer.Option("--all", help="Every queue of the workspace.")] = False,
    workspace: Workspace = None,
    url: Url = None,
    data_dir: DataDir = None,
) -> None:
    """Emergency: take every holder and waiter out of a queue.

    `eventlog exec` and holders that look end what they run; what others run goes on without a slot.
    """
    if everything == (action is not None):
        raise InvalidInput("action", "give one, or --all")
    if everything and group is not None:
        raise InvalidInput("group", "is of one action")
    with open_slots(url, workspace, data_dir) as slots:
        cleared = slots.clear_all() if action is None else slots.clear(_action(action), group_key=_group(action, group))
    put(f"{cleared.holders} holders and {cleared.waiters} waiters taken out")


def _action(named: str) -> str:
    """The action of a queue as `slots ls` names it: `action`, or `action/group`."""
    return named.partition("/")[0]


def _group(named: str, group: str | None) -> str | None:
    inside = named.partition("/")[2] or None
    if inside is not None and group is not None:
        raise InvalidInput("group", f"is {inside!r} in {named!r} and {group!r} in --group: name one")
    return inside or group


def _name(stats: QueueStats) -> str:
    return stats.action if stats.group_key is None else f"{stats.action}/{stats.group_key}"


def _held(stats: QueueStats) -> str:
    return str(stats.active_count) if stats.max_concurrent is None else f"{stats.active_count}/{stats.max_concurrent}"


def _row(stats: QueueStats) -> list[str]:
    since = stats.oldest_enqueued_at
    return [_name(stats), _held(stats), str(stats.queue_length), "" if since is None else f"{stats.time - since:.1f} s"]


def _limits(policy: Policy) -> str:
    parts = [f"{name}={_limit(value)}" for name, value in policy.to_dict().items() if value is not None]
    return ", ".join(parts) or "none"


def _limit(value: Any) -> str:
    return f"{value['count']}/{value['seconds']:g}s" if isinstance(value, dict) else str(value)


def _rate(field: str, text: str) -> Rate:
    count, _, seconds = text.partition("/")
    try:
        return Rate.of(field, {"count": int(count), "seconds": float(seconds)})
    except ValueError as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(field, f"{text[:40]!r} is not COUNT/SECONDS, such as 10/60") from None


def _count(field: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise InvalidInput(field, f"{text[:40]!r} is neither a number nor none")
    return int(text)
