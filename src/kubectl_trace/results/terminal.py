"""Makes text from a traced program harmless on a terminal.

What a program prints, names its threads or passes to a call is its own choice: on a terminal,
control characters in it could move the cursor, set the title or hide text. ``escape`` shows them.
"""

from __future__ import annotations

import re

__all__ = ["escape", "escape_json"]

# C0 but newline and tab, DEL, C1; carriage return only where no newline follows; the bidirectional
# embeddings, overrides, isolates and marks that make text read other than it is (CVE-2021-42574);
# line and paragraph separators; lone surrogates, which no terminal can be sent.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
    "|\r(?!\n)",
)


def escape(text: str) -> str:
    r"""Shows what could command a terminal as visible escapes.

    Args:
        text: Any text.

    Returns:
        The text with control characters as ``\x1b``, and wider ones as ``\u202e``. Newlines
        (``\n``, ``\r\n``) and tabs stay. A text without any such character is returned as it is,
        the same object.
    """
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_visible, text)


def escape_json(text: str) -> str:
    """Shows the same characters in a JSON text as JSON's own escapes: it stays the same JSON."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(lambda character: f"\\u{ord(character[0]):04x}", text)


def _visible(character: re.Match[str]) -> str:
    code = ord(character[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
