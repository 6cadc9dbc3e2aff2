"""Slots, queues and policies, and the bodies and queries that ask for them."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from eventlog.errors import InvalidInput
from eventlog.slots.operations import LISTED, MOST_LISTED, MOST_QUEUES
from eventlog.slots.policy import LARGEST_COUNT, LONGEST_WAIT_S, LONGEST_WINDOW_S
from eventlog.slots.protocol import Holder, Waiter
from eventlog.slots.request import (
    DEFAULT_LEASE_S,
    DEFAULT_QUEUE_LENGTH,
    DEFAULT_QUEUE_TIMEOUT_S,
    LONGEST_LEASE_S,
    SHORTEST_LEASE_S,
)

from .base import LEFT_OUT, SECONDS, WHOLE, Absent, Counter, Flag, Query, Sent, SlotName

LONGEST_POLL_S = 60.0
_MOST_FENCES = (1 << 53) - 1
Count = Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
Lease = Annotated[float, Field(ge=SHORTEST_LEASE_S, le=LONGEST_LEASE_S)]


class SlotIn(Sent):
    """The execution that asks for a slot, and its terms."""

    execution_id: SlotName
    max_concurrent: Count | None = Field(
        default=None, description="How many may hold a slot of the action at once, unless a policy says it."
    )
    pack: SlotName | None = Field(default=None, description="Whose policy bears on the action.")
    group_key: SlotName | None = Field(default=None, description="A queue of the action that is independent.")
    lease_seconds: Lease | None = Field(
        default=DEFAULT_LEASE_S, description="How long the slot stays held without a renewal."
    )
    wait_seconds: float | None = Field(
        default=0.0, ge=0, le=LONGEST_POLL_S, description="How long the answer may wait for the slot."
    )
    queue_timeout_seconds: float | None = Field(
        default=DEFAULT_QUEUE_TIMEOUT_S,
        ge=0,
        le=LONGEST_WAIT_S,
        description="How long the place stands; 0: a free slot or none.",
    )
    max_queue_length: Count | None = Field(
        default=DEFAULT_QUEUE_LENGTH, description="How many may wait, unless a policy says it."
    )
    owner: str | None = Field(
        default=None, pattern="^[A-Za-z0-9_.:@-]{1,128}$", description="What operators see; else where it came from."
    )

    def options(self, origin: str) -> dict[str, Any]:
        """The arguments of `slots.enqueue` beside action and execution; `origin` is where the request came from."""
        return {
            "queue_timeout_s": self.queue_timeout_seconds,
            "max_concurrent": self.max_concurrent,
            "lease_s": self.lease_seconds,
            "group_key": self.group_key,
            "pack": self.pack,
            "max_queue_length": self.max_queue_length,
            "owner": self.owner or origin,
        }


class LeaseIn(Sent):
    """A renewal. Without a length the lease keeps the one that it has."""

    lease_seconds: Lease | None = None
    fencing_token: int | None = Field(
        default=None, ge=1, le=_MOST_FENCES, description="Renew only the slot that was granted with it."
    )


class GroupQuery(Query):
    """The query of routes of one queue."""

    group_key: SlotName | Absent = Field(
        default=None, description="The group whose queue it is; absent: the action's own."
    )


class StateQuery(GroupQuery):
    """The query of where an execution stands."""

    wait_seconds: Annotated[float, Field(ge=0, le=LONGEST_POLL_S), SECONDS] = Field(
        default=0.0, description="How long the answer may wait for the state to change, while it is queued."
    )


class LeaveQuery(GroupQuery):
    """The query of a release or a cancellation."""

    fencing_token: Annotated[int, Field(ge=1, le=_MOST_FENCES), WHOLE] | Absent = Field(
        default=None, description="Release only the slot that was granted with it."
    )
    only_queued: Flag = Field(default=False, description="Leave the line, but keep a slot.")

    @model_validator(mode="after")
    def _names_a_slot_or_a_place(self) -> Self:
        if self.only_queued and self.fencing_token is not None:
            raise InvalidInput("only_queued", "a place in the line has no fencing token yet: give one of the two")
        return self


class ListQuery(Query):
    """What queries of queues have in common."""

    listed: Annotated[int, Field(ge=1, le=MOST_LISTED), WHOLE] = Field(
        default=LISTED, description="How many holders and waiters of a queue to list, at most."
    )


class ActionsQuery(ListQuery):
    """The query of a page of queues: the arguments of `slots.queues_page`."""

    limit: Annotated[int, Field(ge=1, le=MOST_QUEUES), WHOLE] = Field(
        default=100, description="At most so many queues."
    )
    after: str | Absent = Field(
        default=None, description="Only queues whose names come after this one: the `cursor` of a page."
    )


class StatsQuery(ListQuery, GroupQuery):
    """The query of one queue."""


class SlotOut(BaseModel):
    """Where an execution stands. What does not apply is left out. Times are seconds since the Unix epoch."""

    state: Literal["granted", "queued"]
    fencing_token: int = Field(default=LEFT_OUT, description="Of the grant; each is greater than those before.")
    lease_expires_at: float = LEFT_OUT
    position: int = Field(default=LEFT_OUT, ge=1, description="1 is next.")
    limited_by: Literal["busy", "rate", "quota"] = Field(default=LEFT_OUT, description="What is in the way.")
    retry_at: float = Field(default=LEFT_OUT, description="When a rate or a quota allows the next grant.")
    queue_expires_at: float = Field(default=LEFT_OUT, description="Until when the place stands.")
    already: bool = Field(default=LEFT_OUT, description="It was here before it asked.")
    max_concurrent: Count | None = Field(description="How many may hold a slot at once; null: any number.")
    warning: str = Field(default=LEFT_OUT, description="Why the `max_concurrent` that was asked for does not count.")
    time: float = Field(description="When this was so, by the Redis clock.")


class LeftOut(BaseModel):
    """What was done: a slot was given back, a place in the line was given up, or there was nothing to do."""

    result: Literal["released", "cancelled", "none"]


class RateModel(Sent):
    """At most `count` grants: as a rate limit in any stretch of `seconds`, as a quota in each window of that length."""

    count: Count
    seconds: float = Field(ge=0.001, le=LONGEST_WINDOW_S)


class PolicyIn(Sent):
    """Limits. An absent one is left to the next less specific scope, in the end to the caller or the default."""

    max_concurrent: Count | None = None
    rate_limit: RateModel | None = None
    quota: RateModel | None = None
    max_queue_length: Count | None = None
    queue_timeout_seconds: float | None = Field(default=None, ge=0.001, le=LONGEST_WAIT_S)
    log_transitions: bool | None = Field(
        default=None, description="false keeps the queue's transitions out of the log."
    )


class VersionQuery(Query):
    """The query of a change of a policy."""

    expected_version: Counter | Absent = Field(
        default=None, description="Only if the policy has this version; 0: if it is not set."
    )


class PolicyOut(PolicyIn):
    """A policy that is set. The ETag of the answer is its version."""

    scope: str = Field(examples=["action/build"])
    version: int


class PoliciesOut(BaseModel):
    """All policies that are set; the queues' own limits have scopes `queue/<action>` and `queue/<action>/<group>`."""

    policies: list[PolicyOut]


class PolicyDeleted(BaseModel):
    """The scope has no policy (any more). `version` counts the changes of all policies."""

    scope: str
    version: int


class LimitIn(Sent):
    """A queue's own limit."""

    max_concurrent: Count


class LimitOut(BaseModel):
    """A queue's own limit as it is now; null: the policies and callers decide."""

    action: str
    group_key: str | None
    max_concurrent: int | None
    version: int


class QueueStatsOut(BaseModel):
    """One queue. The counts are exact; `holders` and `waiters` list at most `listed` each."""

    action: str
    group_key: str | None
    queue_length: int
    active_count: int
    max_concurrent: int | None
    limits: PolicyIn
    oldest_enqueued_at: float | None
    total_enqueued: int
    total_completed: int
    total_expired: int
    total_timed_out: int
    total_cancelled: int
    holders: list[Holder]
    waiters: list[Waiter]
    time: float


class ActionsOut(BaseModel):
    """Queues that were used within the last week, by name. Pass `cursor` as `after` to go on."""

    actions: list[QueueStatsOut]
    cursor: str | None = Field(description="The last one's name: `action`, or `action/group`.")
    at_end: bool


class QueuesCleared(BaseModel):
    """How many were taken out."""

    holders: int
    waiters: int
