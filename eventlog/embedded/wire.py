"""Simple commands to a server on a unix socket, in the Redis protocol; no client library needed."""

import socket
from pathlib import Path
from typing import BinaryIO

Reply = str | list["Reply"]


class NoAnswer(Exception):
    """The server did not answer, or with an error, whose first word is `code`: "LOADING" while it loads its data."""

    def __init__(self, reason: str, *, code: str = "") -> None:
        self.code = code
        super().__init__(reason)


def send(socket_path: Path, command: str, *, timeout_s: float) -> Reply:
    """The reply to one inline command such as "PING"; NoAnswer if there is none, or an error.

    `timeout_s` bounds each of connecting, sending and every read.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(socket_path))
            connection.sendall(command.encode() + b"\r\n")
            with connection.makefile("rb") as stream:
                return _read_reply(stream)
    except (OSError, ValueError) as error:
        raise NoAnswer(f"{socket_path}: {error}") from error


def _read_reply(stream: BinaryIO) -> Reply:
    line = stream.readline().decode(errors="replace").rstrip("\r\n")
    if not line:
        raise NoAnswer("the server closed the connection")
    kind, rest = line[0], line[1:]
    if kind == "-":
        raise NoAnswer(rest, code=rest.partition(" ")[0])
    if kind == "$":
        return stream.read(int(rest) + 2)[:-2].decode(errors="replace")
    if kind == "*":
        return [_read_reply(stream) for _ in range(int(rest))]
    return rest


def is_ready(socket_path: Path, *, timeout_s: float) -> bool:
    """True once the server answers, if only that its disk is full; NoAnswer has the reason why it did not."""
    try:
        return send(socket_path, "PING", timeout_s=timeout_s) == "PONG"
    except NoAnswer as error:
        if error.code == "MISCONF":
            return True  # it does not take writes, and serves readers
        raise


def info(socket_path: Path, section: str, *, timeout_s: float) -> dict[str, str]:
    """`INFO section` as a mapping."""
    reply = send(socket_path, f"INFO {section}", timeout_s=timeout_s)
    lines = reply.splitlines() if isinstance(reply, str) else []
    return {key: value for key, colon, value in (line.partition(":") for line in lines) if colon}


def setting(socket_path: Path, name: str, *, timeout_s: float) -> str | None:
    """The value of one server setting, None if it has none of that name."""
    reply = send(socket_path, f"CONFIG GET {name}", timeout_s=timeout_s)
    return reply[1] if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], str) else None
