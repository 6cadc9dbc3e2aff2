"""What stands above log and slots: policies waited for, and slots given back when executions complete."""

from typing import TYPE_CHECKING

from ..exports import exporter

if TYPE_CHECKING:
    from .completion import AsyncCompletionListener as AsyncCompletionListener
    from .completion import CompletionListener as CompletionListener
    from .enforcer import AsyncPermit as AsyncPermit
    from .enforcer import AsyncPolicyEnforcer as AsyncPolicyEnforcer
    from .enforcer import Permit as Permit
    from .enforcer import PolicyEnforcer as PolicyEnforcer

__getattr__, __all__ = exporter(
    __name__,
    {
        "completion": "AsyncCompletionListener CompletionListener",
        "enforcer": "AsyncPermit AsyncPolicyEnforcer Permit PolicyEnforcer",
    },
)
