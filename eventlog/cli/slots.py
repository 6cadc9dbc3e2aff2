"""`eventlog slots`: the queues as operators see them, and slots for scripts that hold one across several commands."""

from typing import Annotated

import typer

from ..errors import InvalidInput, NotFound
from ..printing.escape import escaped
from ..printing.output import Format, note, put, put_json
from ..slots.policy import Policy, Rate, Scope
from ..slots.protocol import QueueStats
from .options import APP_SETTINGS, ActionGroup, Output, Queue, with_options
from .quantities import shown_ms
from .tables import put_list, put_table
from .target import Target

app = typer.Typer(help="The queues of actions: holders, waiters and limits.", **APP_SETTINGS)

Execution = Annotated[str, typer.Argument(metavar="EXECUTION_ID", help="The execution that holds a slot, or waits.")]
Token = Annotated[
    int | None, typer.Option("--fencing-token", help="Only the slot that was granted with it.", show_default="any")
]


@app.command("ls")
@with_options
def list_queues(target: Target, output: Output = Format.text) -> None:
    """List the queues that were used within the last week."""
    with target.open_slots() as slots:
        put_list(output, ["QUEUE", "HELD", "WAITING", "LONGEST"], slots.queues(), _row)


@app.command("show")
@with_options
def show(target: Target, queue: Queue, output: Output = Format.text) -> None:
    """Show one queue: its limits, holders and waiters. Exits 1 if nobody has used it within the last week."""
    with target.open_slots() as slots:
        stats = slots.stats(queue.action, group_key=queue.group_key)
    if not stats.total_enqueued:
        raise NotFound(f"nobody has used {stats.queue} within the last week; it would have {_limits(stats.policy)}")
    if output is Format.json:
        put_json(stats.to_dict())
        return
    put(f"{stats.queue}: {_held(stats)} held, {stats.queue_length} waiting; {_limits(stats.policy)}")
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
            f"held for {_seconds(stats.time - holder.granted_at)}",
            f"lease {_seconds(holder.lease_expires_at - stats.time)}",
            f"token {holder.fencing_token}",
            holder.owner or "",
        ]
        for holder in stats.holders
    ]
    waiting = [
        [
            waiter.execution_id,
            f"waits for {_seconds(stats.time - waiter.enqueued_at)}",
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
@with_options
def acquire(
    target: Target,
    queue: Queue,
    execution_id: Execution,
    max_concurrent: Annotated[
        int | None,
        typer.Option(help="How many may hold a slot at once, unless a policy sets it. [default: any number]"),
    ] = None,
    lease: Annotated[float, typer.Option(help="Seconds that the slot is held for, unless it is renewed.")] = 30.0,
    timeout: Annotated[
        float | None, typer.Option(help="Wait at most so many seconds; 0 does not. [default: 3600]")
    ] = None,
    pack: Annotated[str | None, typer.Option(help="The pack whose policy counts if the action has none.")] = None,
    output: Output = Format.text,
) -> None:
    """Wait for a slot and print its fencing token. It stays held after this command, until its lease ends.

    `eventlog slots renew` prolongs it, `eventlog slots release` gives it back. To run one command under a slot,
    `eventlog exec` does all of that. Without a slot in time the exit code is 75.
    """
    with target.open_slots() as slots:
        slot = slots.acquire(
            queue.action,
            execution_id,
            max_concurrent=max_concurrent,
            lease_s=lease,
            timeout_s=timeout,
            group_key=queue.group_key,
            pack=pack,
        )
        # The lease begins now, as long as was asked for: after this command only `slots renew` renews it.
        slot.renew(lease)
        state = slots.state(queue.action, execution_id, group_key=queue.group_key)
    if output is Format.json:
        put_json(state.to_dict())
    else:
        put(str(slot.fencing_token))


@app.command("renew")
@with_options
def renew(
    target: Target,
    queue: Queue,
    execution_id: Execution,
    fencing_token: Token = None,
    lease: Annotated[float | None, typer.Option(help="Seconds from now on. [default: as before]")] = None,
) -> None:
    """Renew the lease on a slot and print how many seconds it lasts. Exits 1 if it was lost."""
    with target.open_slots() as slots:
        state = slots.renew(
            queue.action, execution_id, fencing_token=fencing_token, lease_s=lease, group_key=queue.group_key
        )
    assert state.lease_expires_at is not None
    put(f"{state.lease_expires_at - state.time:.1f}")


@app.command("release")
@with_options
def release(target: Target, queue: Queue, execution_id: Execution, fencing_token: Token = None) -> None:
    """Give a slot back, or leave the queue. An execution that has neither is no error."""
    with target.open_slots() as slots:
        left = slots.leave(queue.action, execution_id, fencing_token=fencing_token, group_key=queue.group_key)
    put({"released": "released", "cancelled": "left the line", "none": "held no slot"}[left])


@app.command("cancel")
@with_options
def cancel(target: Target, queue: Queue, execution_id: Execution) -> None:
    """Take a waiting execution out of the queue. One that holds a slot keeps it."""
    with target.open_slots() as slots:
        waited = slots.cancel(queue.action, execution_id, group_key=queue.group_key)
    put("cancelled" if waited else "did not wait")


@app.command("limit")
@with_options
def limit(
    target: Target,
    queue: Queue,
    max_concurrent: Annotated[str, typer.Argument(metavar="N|none", help="How many may hold a slot at once.")],
) -> None:
    """Set a queue's own limit, above all policies. Raised, it grants slots at once; lowered, it takes none away."""
    count = None if max_concurrent == "none" else _count("max_concurrent", max_concurrent)
    with target.open_slots() as slots:
        slots.set_limit(queue.action, count, group_key=queue.group_key)
        stats = slots.stats(queue.action, group_key=queue.group_key)
    put(f"{stats.queue}: {_limits(stats.policy)}")


@app.command("policy")
@with_options
def policy(
    target: Target,
    scope: Annotated[
        str | None,
        typer.Argument(metavar="[global|pack/PACK|action/ACTION]", help="Without it, all are listed."),
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
) -> None:
    """List policies, show one, or set one: the limits given become the whole policy of SCOPE.

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
        raise InvalidInput("remove", "cannot be combined with limits")
    if scope is None and (remove or given):
        raise InvalidInput("scope", "is needed: global, pack/PACK or action/ACTION")
    wanted = None if scope is None else Scope.parse(scope)
    with target.open_slots() as slots:
        if scope is not None and remove:
            slots.delete_policy(scope)
            put(f"{scope}: no policy")
            return
        if scope is not None and given:
            slots.put_policy(scope, Policy.of(**limits))
        found = {key: stored for key, stored in slots.policies().items() if wanted in (None, key)}
    if wanted is not None and not found:
        raise NotFound(f"there is no policy for {wanted}")
    if not found and output is Format.text:
        note("--- no policy is set ---")
    for key, stored in sorted(found.items()):
        if output is Format.json:
            put_json({"scope": str(key), "version": stored.version, **stored.policy.to_dict()})
        else:
            put(escaped(f"{key}: {_limits(stored.policy)}"))


@app.command("reset")
@with_options
def reset(
    target: Target,
    action: Annotated[str | None, typer.Argument(help="The queue to empty.")] = None,
    group: ActionGroup = None,
    everything: Annotated[bool, typer.Option("--all", help="Every queue of the workspace.")] = False,
) -> None:
    """Emergency: take every holder and waiter out of a queue.

    `eventlog exec`, and holders that check their lease, stop what they run; other work goes on without a slot.
    """
    if everything == (action is not None):
        raise InvalidInput("action", "give one, or --all")
    if everything and group is not None:
        raise InvalidInput("group", "needs an action: --all takes every queue")
    with target.open_slots() as slots:
        if action is None:
            cleared = slots.clear_all()
        else:
            queue = Queue.of(action, group)
            cleared = slots.clear(queue.action, group_key=queue.group_key)
    put(f"{_many(cleared.holders, 'holder')} and {_many(cleared.waiters, 'waiter')} taken out")


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _held(stats: QueueStats) -> str:
    return str(stats.active_count) if stats.max_concurrent is None else f"{stats.active_count}/{stats.max_concurrent}"


def _row(stats: QueueStats) -> list[str]:
    since = stats.oldest_enqueued_at
    return [stats.queue, _held(stats), str(stats.queue_length), "" if since is None else _seconds(stats.time - since)]


def _seconds(seconds: float) -> str:
    return shown_ms(max(seconds, 0) * 1000)


def _limits(policy: Policy) -> str:
    """The limits in words."""
    parts = []
    if policy.max_concurrent is not None:
        parts.append(f"at most {policy.max_concurrent} at once")
    if policy.rate_limit is not None:
        parts.append(f"{_many(policy.rate_limit.count, 'grant')} in any {policy.rate_limit.seconds:g} s")
    if policy.quota is not None:
        parts.append(f"{_many(policy.quota.count, 'grant')} in each {policy.quota.seconds:g} s")
    if policy.max_queue_length is not None:
        parts.append(f"at most {policy.max_queue_length} waiting")
    if policy.queue_timeout_seconds is not None:
        parts.append(f"{policy.queue_timeout_seconds:g} s to wait")
    if not parts:
        parts.append("no limits")
    return ", ".join(parts) + ("; not logged" if policy.log_transitions is False else "")


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
