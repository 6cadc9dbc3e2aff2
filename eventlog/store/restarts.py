"""A Redis that has started anew may hold half a transaction at the end of its append-only file, torn by a crash.

It has not carried that half out. But it goes on writing behind it, so that its next start takes the half and the next
transaction for one: half of a batch comes back, offsets are given out twice, a slot has two holders. A rewrite of the
file (`BGREWRITEAOF`) in between cures it. Valkey 9 cuts a torn file where the transaction began.
"""

from collections.abc import Mapping

QUESTION = ("INFO", "server", "persistence")
REWRITE = ("BGREWRITEAOF",)
_FIRST_VALKEY = 9


def parsed_info(raw: bytes) -> dict[str, str]:
    """The answer to `INFO` by field."""
    lines = (line.partition(":") for line in raw.decode(errors="replace").splitlines())
    return {name: value.strip() for name, _, value in lines if value}


def may_hold_half(said: Mapping[str, str]) -> bool:
    """Whether this Redis has loaded an append-only file when it started, and has not begun to rewrite it since."""
    if said.get("aof_enabled") != "1" or said.get("loading") == "1":
        return False
    valkey = said.get("valkey_version", "")
    if valkey and int(valkey.partition(".")[0]) >= _FIRST_VALKEY:
        return False
    rewriting = said.get("aof_rewrite_in_progress") == "1" or said.get("aof_rewrite_scheduled") == "1"
    rewritten = said.get("aof_last_rewrite_time_sec") != "-1" and said.get("aof_last_bgrewrite_status") == "ok"
    # A server that found no file at its start has none to rewrite.
    return said.get("aof_base_size") != "0" and not rewriting and not rewritten
