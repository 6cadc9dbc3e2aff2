"""A stream of bytes cut into lines, whatever the pieces in which it comes. Pure."""

import math


class LineCutter:
    """Only `\\n` ends a line. One longer than `longest` bytes is not kept: None stands for it."""

    def __init__(self, longest: float = math.inf) -> None:
        self._longest = longest
        self._begun = bytearray()
        self._is_too_long = False

    @property
    def is_within_line(self) -> bool:
        """True if a line was begun and not ended."""
        return bool(self._begun) or self._is_too_long

    @property
    def held(self) -> int:
        """Bytes kept of a line that was begun."""
        return len(self._begun)

    def feed(self, data: bytes) -> list[bytes | None]:
        """The lines that `data` completes, without their ends."""
        first, *others = data.split(b"\n")
        self._keep(first)
        if not others:
            return []
        begun = others.pop()
        lines = [self._complete(), *(line if len(line) <= self._longest else None for line in others)]
        self._keep(begun)
        return lines

    def end(self) -> list[bytes | None]:
        """The last line, if the stream did not end with a line's end."""
        return [self._complete()] if self.is_within_line else []

    def _keep(self, piece: bytes) -> None:
        if self._is_too_long or len(self._begun) + len(piece) > self._longest:
            self._is_too_long = True
            self._begun.clear()
        else:
            self._begun += piece

    def _complete(self) -> bytes | None:
        line = None if self._is_too_long else bytes(self._begun)
        self._begun.clear()
        self._is_too_long = False
        return line
