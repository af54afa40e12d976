"""Programs and near-programs for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

SPACE = st.sampled_from(
    [" ", "\n", "\t", "\r\n", "  ", "", " // c { ' \" /\n", ' /* } " // \n */ ', "\n// x\n"]
)
_EXPRESSIONS = st.sampled_from(
    [
        "pid",
        "1",
        "@a[comm, 1]",
        '"x{ // y /* \\" }"',
        "(pid / 3)",
        "pid / tid / 2 == 1",
        "(struct file *)arg0",
        'str(arg0) == "é"',
        "args->x",
        "$1",
        "arg0 != 0 &&\n arg1",
        '"%d", $container_pid',
    ]
)
MAP_STATEMENTS = st.sampled_from(
    [
        "@c = count()",
        "@l = min(pid)",
        "@g[comm] = avg(arg0)",
        "@r = avg(1)",
        "$x = @r",
        "@n++",
        "--@n",
        "@k[(pid, 1)] = sum(1)",
        "@k[$x] += 2",
        "@t[ /* ] */ 1] = 0",
        "print(@c)",
        "print(@g, 5, 1)",
        "print (@k /* ) */ , $1)",
        "print(@t[1])",
        "clear(@g)",
        "delete(@k[1])",
        "delete(@t, (1, 2))",
    ]
)
ATTACH_POINTS = st.sampled_from(
    [
        "BEGIN",
        "END",
        "begin",
        "kprobe:vfs_read",
        "k:vfs_*",
        "k*:vfs_read",
        "kprobe:f+0x10",
        "mine=kprobe:f",
        "uprobe:/bin/x:0x1234",
        'uprobe:"/bin/a b":"main.f"',
        "uprobe:/proc/$container_pid/exe:main.*",
        "uretprobe:libc:malloc",
        "uprobe:/bin/x@file.c:12",
        "usdt:/usr/lib/*/x.so:p:n",
        "watchpoint:0x10000000:8:rw",
        "t:syscalls:sys_enter_openat",
        "tracepoint:$1:é",
        "i:s:1",
        "interval:s : 1",
        "profile:hz:99",
        "iter:task",
        "self:signal:SIGUSR1",
        "*:x",
    ]
)


@st.composite
def blocks(draw: st.DrawFn, depth: int = 2) -> str:
    text = "{"
    for kind in draw(st.lists(st.integers(0, 6), max_size=3)):
        text += draw(SPACE)
        if kind == 0 and depth:
            text += f"if ({draw(_EXPRESSIONS)}) {draw(blocks(depth - 1))}"
        elif kind == 1:
            text += f'printf{draw(SPACE)}("%d // é{{\\n"{draw(SPACE)}, {draw(_EXPRESSIONS)});'
        elif kind == 2:
            text += f"@[{draw(_EXPRESSIONS)}] = count();"
        elif kind > 4:
            text += draw(MAP_STATEMENTS) + ";"
        else:
            text += f"$x = {draw(_EXPRESSIONS)};"
    return text + draw(SPACE) + "}"


@st.composite
def probes(draw: st.DrawFn) -> str:
    points = draw(st.lists(ATTACH_POINTS, min_size=1, max_size=3))
    text = "".join(f"{point}{draw(SPACE)},{draw(SPACE)}" for point in points[:-1]) + points[-1]
    text += draw(st.sampled_from([" ", "\n", " , ", " // \n", "\r\n"]))
    if draw(st.booleans()):
        text += f"/{draw(st.sampled_from(['', ' ']))}{draw(_EXPRESSIONS)} /" + draw(SPACE)
    return text + draw(blocks())


@st.composite
def programs(draw: st.DrawFn) -> str:
    """Programs as the three versions, taken together, accept them."""
    head = draw(
        st.sampled_from(
            ["", "#!/usr/bin/env bpftrace\n", "// é\n", "#include <linux/fs.h>\n", "\r\n"]
        )
    )
    others = st.sampled_from(
        [
            "#define AF_INET 2 /* IPv4 */\n",
            "struct a { int x; /* ) */ };",
            "struct __attribute__((packed)) b\n{ int x; } __attribute__((aligned(8)))",
            "enum e { A, B = 2 };",
            "config = { max_strlen = 64; }",
            "config /* { */ = {}",
            'import "stdlib/x";',
            "let @m = lruhash(100);",
            "let @n = hash( 5 )\n",
            "macro m(x, $y, @z) { x / 2 }",
            "fn f($a : uint8, $b : struct x *) : struct y { return 1; }",
        ]
    )
    text = head
    for part in draw(st.lists(others | probes(), max_size=4)):
        text += part + draw(SPACE)
    return text + draw(probes()) + draw(SPACE)


@st.composite
def near_programs(draw: st.DrawFn) -> str:
    """Programs with something missing, doubled or put in."""
    text = draw(programs())
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.integers(0, 5))
        text = text[:start] + draw(st.text('{}()[]/"\\*#:,;@$ \n\r\0éx', max_size=3)) + text[end:]
    return text


TEXTS = (
    st.text()
    | st.text('{}()[]/"\\*#!:,;@$ \n\rkx1')
    | st.lists(
        st.sampled_from([*'{}()[]/"\\#:,;@\n ', "/*", "*/", "//", "struct ", "kprobe:f", "if"])
    ).map("".join)
    | near_programs()
)
