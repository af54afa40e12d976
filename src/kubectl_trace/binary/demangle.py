"""Names as the compiler made them, in C++ and Rust, and as they were in the source.

Formats: https://itanium-cxx-abi.github.io/cxx-abi/abi.html#mangling for C++,
https://doc.rust-lang.org/rustc/symbol-mangling/ for Rust, its older, "legacy" scheme too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# LLVM's demangler, behind pycxxfilt, goes a level deeper in its stack for a byte of the name.
_LONGEST = 4096
# It has no limit to what comes out, and a name may refer to its own parts: 77 bytes can say
# 500 MB. Of LLVM's own 170,000 names, three are longer when demangled.
_LONGEST_RESULT = 16384
_MOST_AT_ONCE = 1 << 22

# Up to the crate's root, which the first path begins with: `_RNG_init` is C.
_RUST = re.compile(
    r"_R(?:N[a-zA-Z]|[MX](?:s[0-9a-zA-Z]*_)?|I|Y[ADOPQRST]*[a-z]?)*C(?:s[0-9a-zA-Z]*_)?u?\d"
)
_RUST_REFERENCE = re.compile(r"B[0-9a-zA-Z]*_")
_RUST_LEGACY = re.compile(r"_?_ZN(?P<path>.+)17h[0-9a-f]{16}E(?P<suffix>\..*)?", re.DOTALL)
_LENGTH = re.compile(r"[1-9]\d{0,3}", re.ASCII)
_RUST_ESCAPE = re.compile(r"\$(\w{1,8})\$|\.\.")
_RUST_ESCAPES = {
    "SP": "@",
    "BP": "*",
    "RF": "&",
    "LT": "<",
    "GT": ">",
    "LP": "(",
    "RP": ")",
    "C": ",",
}

# A part that was there before, `S_`, `S1_`, or an argument of the template, `T_`, `T0_`.
_CXX_REFERENCE = re.compile(r"[ST][0-9A-RU-Z]*_")
# What repeats what follows it for each argument of a pack: expansions and fold expressions.
_CXX_PACK = re.compile(
    r"Dp|sp|f[lrLR](?:a[NSan]|cm|d[sVv]|e[Ooq]|g[et]|l[Sest]|m[ILil]|ne|o[Ror]|p[Ll]|r[MSms])"
)

_CLONE = re.compile(r" \((\.[^()]*)\)$")
_CLONE_READABLE = re.compile(r" \[clone [^][]*\]$")
_QUALIFIER = re.compile(r" (?:const|volatile|noexcept|&&?)(?![\w])")
_QUALIFIERS = re.compile(rf"(?:{_QUALIFIER.pattern})+$")
# `operator int` is a name with a blank. The rest are comparisons and shifts in expressions.
_TOKEN = re.compile(
    r"(?P<operator>\boperator(?:\(\)|\[\]|<=>|->\*?|<<=?|>>=?|[-+*/%^&|=!<>]=?|(?= ))"
    r"|->| (?:<<?|>>?)=? )|[][(){}<> ]"
)
_CLOSERS = {"(": ")", "<": ">", "[": "]", "{": "}"}
# What the compiler makes for a function keeps its name apart from that function's.
_MADE_FOR = re.compile(
    r"(?:(?:non-virtual|virtual|covariant return) thunk to|TLS (?:init|wrapper) function for"
    r"|invocation function for block in) "
)


def language(name: str) -> str:
    """The language that a symbol's name is mangled for: `C++`, `Rust` or nothing."""
    if _RUST.match(name) or _RUST_LEGACY.fullmatch(name):
        return "Rust"
    return "C++" if name.startswith(("_Z", "___Z")) else ""


def demangle(name: str) -> str:
    """The name as in the source, with parameters in C++; what is not mangled comes back as it is.

    So does a name that is broken, longer than 4096 characters or made to grow when demangled. The
    compiler's variants of a function are told apart: `f(int) [clone .isra.0]`.
    """
    if len(name) > _LONGEST or not name.isascii():
        return name
    made_for = language(name)
    if not made_for:
        return name
    if made_for == "C++":
        readable = _cxx(name)
    else:
        legacy = _RUST_LEGACY.fullmatch(name)
        readable = _rust_legacy(legacy) if legacy else _rust(name)
    return _CLONE.sub(r" [clone \1]", readable) if readable else name


def short(demangled: str) -> str:
    """The qualified name alone: of `int ns::A<int>::f(int) const` it is `ns::A<int>::f`.

    Without parameters, what a function template returns, and `[clone .cold]`. What has no
    parameters, as all names of Rust, comes back as it is, and so does what is not understood.
    """
    if len(demangled) > _LONGEST_RESULT:
        return demangled
    head = _QUALIFIERS.sub("", _CLONE_READABLE.sub("", demangled))
    if not head.endswith(")"):
        return head
    begin, parameters = _function(head)
    name = head[begin:parameters]
    # `void (*f(int))(char)` returns a function.
    return demangled if name.startswith(("(*", "(&")) else name or head


def _function(text: str) -> tuple[int, int]:
    """Where in a function with its parameters its name begins and ends."""
    begin = end = 0
    is_named = bool(_MADE_FOR.match(text))
    inside: list[str] = []
    for token in _TOKEN.finditer(text):
        character = token[0]
        if token["operator"]:
            is_named = is_named or not inside
        elif character in _CLOSERS:
            if not inside and character == "(":
                end = token.start()
            inside.append(_CLOSERS[character])
        elif inside and character == inside[-1]:
            inside.pop()
        elif character == " " and not (inside or is_named or _QUALIFIER.match(text, token.start())):
            # The last blank ends what it returns. No name begins with what follows `f(int) `.
            begin = token.end()
    return (begin, end) if not inside and begin < end else (0, 0)


def _cxx(name: str) -> str | None:
    """The name demangled, None where it is broken or grows too much.

    In a name that might grow, references to other parts are replaced by names of the same length,
    which leaves the rest as it is, and put back a few at a time, from the left: four can't make
    more than 16 times as much of what there was.
    """
    from pycxxfilt import itanium_demangle

    references = [found.end() for found in _CXX_REFERENCE.finditer(name)]
    has_packs = bool(_CXX_PACK.search(name))
    # A reference makes twice as much, or as many times as a pack has arguments.
    factor = len(name) if has_packs else 2
    if len(name) * factor ** len(references) <= _MOST_AT_ONCE:
        return _called(itanium_demangle, name)
    result: str | None = None
    for end in (0, *references[:: 1 if has_packs else 4], len(name)):
        result = _called(itanium_demangle, name[:end] + _CXX_REFERENCE.sub(_harmless, name[end:]))
        if result is None:
            break
    return result


def _harmless(reference: re.Match[str]) -> str:
    size = len(reference[0])
    # Nobody has 36^8 parts; what is no name ends the attempt.
    return f"{size - 1}{'x' * (size - 1)}" if size <= 10 else "!" * size


def _rust(name: str) -> str | None:
    from pycxxfilt import rust_demangle

    # Each reference can't more than double it. A hundredth of the Rust compiler's own names
    # is too much.
    if len(name) << len(_RUST_REFERENCE.findall(name)) > _MOST_AT_ONCE:
        return None
    return _called(rust_demangle, name)


def _called(demangler: Callable[[str], str | None], name: str) -> str | None:
    try:
        result = demangler(name)
    except ValueError:
        return None
    return result if result is None or len(result) <= _LONGEST_RESULT else None


def _rust_legacy(name: re.Match[str]) -> str | None:
    """The path without the hash that is its last part."""
    path, parts, at = name["path"], [], 0
    while at < len(path):
        length = _LENGTH.match(path, at)
        if length is None:
            return None
        at = length.end() + int(length[0])
        part = path[length.end() : at]
        # An identifier can't begin with an escape.
        parts.append(_RUST_ESCAPE.sub(_unescaped, part[part.startswith("_$") :]))
    if at != len(path):
        return None
    suffix = f" ({name['suffix']})" if name["suffix"] else ""
    return "::".join(parts) + suffix


def _unescaped(escape: re.Match[str]) -> str:
    code = escape[1]
    if code is None:
        return "::"
    if re.fullmatch("u[0-9a-f]{1,5}", code) and chr(int(code[1:], 16)).isprintable():
        return chr(int(code[1:], 16))
    return _RUST_ESCAPES.get(code, escape[0])
