"""Text that came from elsewhere, made safe for a terminal: nothing in it can move the cursor or hide. Pure."""

import unicodedata


def escaped(text: str) -> str:
    r"""`text` with control, format and unassigned characters as `\uXXXX`, line ends included; all else as it is."""
    if text.isprintable():
        return text
    return "".join(char if _is_harmless(char) else _escape(char) for char in text)


def _is_harmless(char: str) -> bool:
    # Python calls the wide and the unbreakable spaces unprintable too.
    return char.isprintable() or unicodedata.category(char) == "Zs"


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
