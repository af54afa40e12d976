"""Probes that some version of bpftrace sees where another sees a comment, a string or a type.

Each of the refused programs was compiled by bpftrace 0.23.2 or 0.27 with a probe more than it seems
to have, or follows from how their lexers read (src/lexer.l, src/parser.cpp).
"""

from __future__ import annotations

import pytest

from kubectl_trace.program import syntax
from kubectl_trace.program.tokens import ProgramError

HIDDEN = "kprobe:vfs_read { @[comm] = count(); }"


@pytest.mark.parametrize(
    "text",
    [
        f"struct a {{ long x:'\"'; }} {HIDDEN} //\"\n}}\n",
        f"enum a {{ X = '\"' }} {HIDDEN} //\"\n}}\n",
        f"struct a {{ int x; /* {{ */ }};\n// }} {HIDDEN}\n",
        f"struct a {{ int x; // }} {HIDDEN}\n}};\n",
        f"struct // {{\nb {{ int y; }};\n// }} {HIDDEN}\n",
        f"struct a /* {{ */ {{ int y; }};\n// }} {HIDDEN}\n",
        f"struct __attribute__(({{ int x; }} {HIDDEN})) a {{ int y; }};\n",
        f"struct a {{ int y; }} __attribute__((packed /* ) */ {HIDDEN} /* ( */));\n",
        f"struct a {{ int y; // \\\n }} {HIDDEN}\n}};",
    ],
)
def test_nothing_hides_in_a_definition(text: str) -> None:
    with pytest.raises(ProgramError, match="other versions of bpftrace"):
        syntax.parse(f"{text}uprobe:/x:f {{ }}")


@pytest.mark.parametrize(
    "code",
    [
        f"$a = (struct x // *)1; }} {HIDDEN}\n*)1;",
        f"$a = (struct x /* *)1; }} {HIDDEN} */ *)1;",
        f'$a = sizeof(struct x "); }} {HIDDEN} //");',
        f'$a = 1struct "}} }} {HIDDEN} uprobe:/x:g {{ //";',
        f'$a = $b ? 1 : struct x = "}} 2; }} {HIDDEN} uprobe:/x:g {{ //";',
        f'$a->struct "}} }} {HIDDEN} uprobe:/x:g {{ //";',
        "$a = struct",
        f"let $b : struct // x = 1; }} {HIDDEN}\nx = 1;",
    ],
)
def test_nothing_hides_behind_a_types_name(code: str) -> None:
    for program in (
        f"uprobe:/x:f {{ {code} }}",
        f"fn g($x : int64) : int64 {{ {code} }} BEGIN {{ }}",
    ):
        with pytest.raises(ProgramError):
            syntax.parse(program)


def test_nothing_hides_in_a_signature() -> None:
    with pytest.raises(ProgramError):
        syntax.parse(
            f"fn f($a : struct // x) : int64 {{ }} {HIDDEN}\ny *) : int64 {{ }} BEGIN {{ }}"
        )


@pytest.mark.parametrize(
    "point", [f'uprobe:/x:f, struct"}} {HIDDEN} uprobe:/x:g{{//":x', "enum:f", "kprobe:f : struct"]
)
def test_nothing_hides_in_an_attach_point(point: str) -> None:
    with pytest.raises(ProgramError):
        syntax.parse(f"{point} {{ }}")


@pytest.mark.parametrize("value", ["struct", "struct sock", "(1 + union"])
def test_nothing_hides_behind_a_macro(value: str) -> None:
    with pytest.raises(ProgramError, match="unfinished"):
        syntax.parse(f'#define S {value}\nuprobe:/x:f {{ $a = S " }} }} {HIDDEN} //"; }}')


@pytest.mark.parametrize(
    "text",
    [
        "struct a { int x; /* it's \"all\" */ // don't\n char y[3]; union { int z; } w; }; END { }",
        "#define SOCK (struct sock *)\nkprobe:f { $a = SOCK arg0; }",
        'kprobe:f /((struct file *) arg0)->f_pos == 1/ { $a = sizeof(struct x); $s = "} struct"; }',
        "kprobe:f { $a = (struct x[4])1; $b = offsetof(struct task_struct, comm); // struct\n }",
        'kprobe:f { let $x : struct a = $y; printf("%d", $x.b); let $z: struct b; }',
        "enum e { A = 'a' };\n#define N constructor\nBEGIN { print(N); }",
        '#define M "struct"\nBEGIN { print(M); }',
        "#define IP args.instruction_pointer\nk:f { print(IP); }",
        "fn f($a : struct x, $b : struct y *) : struct z { return 1; } BEGIN { @struct = $union; }",
        "uprobe:/opt/struct/x:f, uprobe:/x:enum_f, kprobe:struct_get { print(args.struct_size); }",
    ],
)
def test_types_have_names(text: str) -> None:
    syntax.parse(text)
