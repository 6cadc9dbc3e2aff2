"""Bytes cut into lines, each bounded, at a cost that does not grow with what is left out. Pure."""

from typing import NamedTuple

LONGEST_BYTES = 8 * 1024
_CONTINUES = 0b1000_0000


class Line(NamedTuple):
    """One line without its end; `truncated` where more of it came than is kept."""

    raw: bytes
    truncated: bool

    @property
    def text(self) -> str:
        r"""As text, without the `\r` of a line that ended in `\r\n`; bytes that are not UTF-8 are written as `\xff`."""
        return self.raw.removesuffix(b"\r").decode("utf-8", "backslashreplace")


class LineSplitter:
    """Cuts a stream into lines of at most `longest` bytes; the rest of a longer line is left out."""

    def __init__(self, longest: int = LONGEST_BYTES) -> None:
        self._longest = longest
        self._pending = b""
        self._overlong = False

    def feed(self, chunk: bytes, room: int) -> tuple[list[Line], int]:
        """The lines that `chunk` completes, at most `room`, and how many more it completes that are left out."""
        pieces = chunk.split(b"\n", room)
        rest = pieces.pop()
        lines = [self._complete(piece) for piece in pieces]
        left_out = rest.count(b"\n")
        if left_out:
            self._pending, self._overlong = b"", False
            rest = rest[rest.rfind(b"\n") + 1 :]
        self._keep(rest)
        return lines, left_out

    def end(self) -> Line | None:
        """The last line, if the stream did not end with a line's end."""
        return self._complete(b"") if self._pending else None

    def _keep(self, piece: bytes) -> None:
        room = self._longest - len(self._pending)
        self._overlong = self._overlong or len(piece) > room
        self._pending += piece[:room]

    def _complete(self, piece: bytes) -> Line:
        if not self._pending and len(piece) <= self._longest:
            return Line(piece, False)
        self._keep(piece)
        raw, overlong = self._pending, self._overlong
        self._pending, self._overlong = b"", False
        return Line(_whole_characters(raw) if overlong else raw, overlong)


def _whole_characters(raw: bytes) -> bytes:
    """`raw` without the beginning of a UTF-8 character at its end, the rest of which was cut off."""
    for length in range(1, min(4, len(raw)) + 1):
        byte = raw[-length]
        if byte & 0b1100_0000 == _CONTINUES:
            continue
        expected = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return raw[:-length] if expected > length else raw
    return raw
