from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kubectl_trace.program import policy, syntax
from kubectl_trace.program.policy import Rules
from kubectl_trace.program.tokens import ProgramError
from tests.unit.program.programs import SPACE, near_programs, programs

if TYPE_CHECKING:
    from kubectl_trace.program.policy import Refusal

SCOPED = Rules(scope_required=True)
NO_KERNEL = Rules(kernel_memory=False)
SAFE = Rules(unsafe=False)
DENIED = Rules(denied=frozenset(("system", "kstack")))
ALL = Rules(
    True,
    False,
    False,
    frozenset(("kstack",)),
    ("uprobe", "uretprobe", "usdt", "tracepoint:syscalls:*"),
)


def refusals(text: str, rules: Rules) -> list[Refusal]:
    return policy.check(syntax.parse(text), rules)


def refused(text: str, rules: Rules) -> list[tuple[str, str]]:
    """The rules and the parts of the text that are refused."""
    return [(each.rule, text[each.span.start : each.span.end]) for each in refusals(text, rules)]


@settings(deadline=None)
@given(programs())
def test_without_rules_every_program_is_allowed(text: str) -> None:
    assert refusals(text, Rules()) == []


@pytest.mark.parametrize(
    "text",
    [
        'uprobe:/bin/x:f { printf("%s %d\\n", str(arg0), arg1); @[ustack] = count(); }',
        "u:libc:malloc /pid != 1/ { @a[tid] = nsecs; } ur:libc:malloc /@a[tid]/ "
        "{ @ns = hist(nsecs - @a[tid]); delete(@a[tid]); }",
        "uprobe:/bin/x:f { @ = *(uint64 *)arg0; $p = (struct x *)arg1; @b = $p->y.z[2]; }",
        "struct x { int y; struct { char z[3]; } w; }; uprobe:/x:f { @ = ((struct x *)arg0)->w; }",
        "tracepoint:syscalls:sys_enter_openat { @[comm, str(args->filename)] = count(); }",
        "t:syscalls:sys_enter_openat { @[str ( args . filename , 64 )] = count(); }",
        'BEGIN { printf("%s\\n", str($1)); } interval:s:1 { print(@); clear(@); exit(); } '
        "uprobe:/x:f { @ = count(); }",
        "#define LIMIT 10\nenum e { A, B = 2 }; uprobe:/x:f /arg0 > LIMIT/ { @ = A; }",
        "config = { max_strlen = 64; missing_probes = warn } usdt:/x:p:n { @[arg0] = sum(1); }",
        "uprobe:/x:f { if (arg0 > 1) { $x = 2; } else { $x = 3 } @ = $x; unroll(3) { @n++ } }",
        "uprobe:/x:f { $t = (1, comm); @ = $t.1; for ($kv : @m) { print($kv.0); } }",
        "uprobe:/x:f { @ = (uint64)*(uint64 *)uptr((uint64)curtask->thread.fsbase - 8); }",
        "uprobe:/x:f { @ = *arg0; @b = **(uint64 *)arg1; @c = *(arg0 + 8); @d = *$p->next; }",
        "uprobe:/x:f { @ = *(uint64 *)@p * 2 * @n; @b = @n[1] * (arg0 + 1) * sizeof(arg0) * 2; }",
        "uprobe:/x:f { @ = str((uint8 *)$x); @b = str(arg0 + 4, 8); @c = buf($p->data, $p->len); }",
        "uprobe:/x:f { @ = str(*(uint64 *)arg0); @b = str(((struct x *)arg0)->s); }",
        'uprobe:/x:f { @ = str(uptr(@n)); @b = *uptr($x); @c = str(reg("di")); }',
        "uprobe:/x:f { @c = str(@p->s); @d = str(args->s); @e = str((uint64)*(uint64 *)arg0); }",
        "uprobe:/x:f { @ = ***(uint64 **)arg0; @b = *((uint64 *)arg0)[1]; }"
        "uprobe:/x:f { @d = *(uint64 *)*arg0 && pid & 1; @e = str((uint8 *)*arg0); }",
        "uprobe:/x:f / *arg0 == 5 && *(arg0 + @n * 8) & 7/ { join(*(uint64 *)arg0); }",
        "uretprobe:/x:f { @ = str(retval); @b = *(uint32 *)retval; }",
        'uprobe:"/x y":f { // system(\n /* cat() */ @system = 1; $signal = "system(1)"; }',
    ],
)
def test_what_is_harmless_passes_the_strictest_rules(text: str) -> None:
    assert refused(text, ALL) == []


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("iter:task { }", "iter:task"),
        ("it:task, uprobe:/x:f { }", "it:task"),
        ("i*:s:1 { }", "i*:s:1"),
        ("*:f { }", "*:f"),
        ("bench:x { } BEGIN { }", "bench:x"),
        ("tracepoint:sched:sched_switch { }", "tracepoint:sched:sched_switch"),
        ("t:sched:sched_wakeup { }", "t:sched:sched_wakeup"),
        ("tracepoint:sched:* { }", "tracepoint:sched:*"),
        ("tracepoint:s*:sys_enter_openat { }", "tracepoint:s*:sys_enter_openat"),
        ("tracepoint:$1:sys_enter_openat { }", "tracepoint:$1:sys_enter_openat"),
        ("kprobe:tcp_v4_rcv { }", "kprobe:tcp_v4_rcv"),
        ("fentry:tcp_v4_rcv { }", "fentry:tcp_v4_rcv"),
        ("fentry:vmlinux:tcp_v4_rcv { }", "fentry:vmlinux:tcp_v4_rcv"),
        ("kprobe:tcp_* { }", "kprobe:tcp_*"),
        ("kprobe:tcp_v4_rcv+4 { }", "kprobe:tcp_v4_rcv+4"),
        ("k:vmlinux:tcp_v4_rcv { }", "k:vmlinux:tcp_v4_rcv"),
        ("rawtracepoint:sched_switch { }", "rawtracepoint:sched_switch"),
        ("rt:vmlinux:sched_process_exit { }", "rt:vmlinux:sched_process_exit"),
        ("rt:softirq_entry { }", "rt:softirq_entry"),
        ("u:/x:f { print(cgroup_path(5000)); }", "cgroup_path"),
        ('u:/x:f { print(cgroupid("/sys/fs/cgroup/x")); }', "cgroupid"),
        ("whatever:f { }", "whatever:f"),
        ("interval:s:1 { print(comm); }", "comm"),
        ("i:s:1 /pid == 1/ { }", "pid"),
        ("BEGIN, i:s:1 { print(ustack); }", "ustack"),
        ("i:s:1 { print(str(uptr(1))); }", "uptr"),
        ("i:s:1 { print(str(0xffffffff81000000)); }", "str"),
        ("i:s:1 { print(*(uint64 *)1); }", "*"),
        ("i:s:1 { print(somethingnew); }", "somethingnew"),
        ("i:s:1 { m() } macro m() { print(pid) }", "pid"),
        ("#define PID pid\ni:s:1 { print(PID); }", "#define PID pid"),
        ("enum e { pid }; i:s:1 { print(pid); }", "pid"),
        ('u:/x:f { cat("/proc/1/environ"); }', "cat"),
        ('u:/x:f { skboutput("/x", arg0, 1, 0); }', "skboutput"),
        ("u:/x:f { newfunction(1); }", "newfunction"),
        ('import "x"; u:/x:f { }', 'import "x";'),
        ('#include "/etc/shadow"\nu:/x:f { }', '#include "/etc/shadow"'),
        ("#include <linux/sched.h>\nu:/x:f { }", "#include <linux/sched.h>"),
        ("struct x {\n#include </etc/shadow>\n}; u:/x:f { }", "#"),
        ("struct x {\n%:include </etc/shadow>\n}; u:/x:f { }", "%:"),
        ("config = { unstable_import = 1 } u:/x:f { }", "unstable_import"),
    ],
)
def test_a_required_scope_can_not_be_left(text: str, part: str) -> None:
    assert ("scope: required", part) in refused(text, SCOPED)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("uprobe:/x:f { @ = curtask->pid; }", "curtask"),
        ("uprobe:/x:f { @ = curtask->thread.fsbase->x; }", "curtask"),
        ("uprobe:/x:f { if ($x-->curtask->mm->start_stack) { @++ } }", "curtask"),
        ("uprobe:/x:f { @ = @x---->kaddr; }", "kaddr"),
        (
            "struct task_struct { char pad[3000]; struct { char fsbase[64]; } thread; }; "
            "uprobe:/x:f { print(curtask->thread.fsbase); }",
            "task_struct",
        ),
        ("struct thread_struct { char fsbase[64]; }; uprobe:/x:f { }", "thread_struct"),
        ("uprobe:/x:f { @ = __builtin_curtask; }", "__builtin_curtask"),
        ("kprobe:f { @ = curtask->thread.fsbase; }", "curtask"),
        ("uprobe:/x:f { @ = ((struct x *)ctx)->y; }", "ctx"),
        ('uprobe:/x:f { @ = *kaddr("jiffies"); }', "kaddr"),
        ("uprobe:/x:f { @ = *kptr(arg0); }", "kptr"),
        ("uprobe:/x:f { @ = (newbuiltin)->x; }", "newbuiltin"),
        ("uprobe:/x:f { @ = newfunction(arg0); }", "newfunction"),
        # Numbers that are followed without being made pointers.
        ("uprobe:/x:f { @ = *0xffffffff81000000; }", "*"),
        ("uprobe:/x:f { @ = *@n; }", "*"),
        ("uprobe:/x:f { $m = @n; @ = *$m; }", "*"),
        ("uprobe:/x:f { @ = (uint64)*@n; }", "*"),
        ("uprobe:/x:f { @ = *(@n); }", "*"),
        ("uprobe:/x:f { @ = *(pid - pid + 1); }", "*"),
        ("uprobe:/x:f { @ = **@n; }", "*"),
        ("uprobe:/x:f { @ = *@n[1]; }", "*"),
        ("uprobe:/x:f { if (1) { } *@n; }", "*"),
        ("uprobe:/x:f { @ = arg0 ? *@n : 1; }", "*"),
        ("uprobe:/x:f { @ = buf(0xffffffff81000000, 8); }", "buf"),
        ("uprobe:/x:f { @ = buf(@n, 8); }", "buf"),
        ("uprobe:/x:f { @ = buf(@n[1], 8); }", "buf"),
        ("uprobe:/x:f { $m = @n; @ = buf($m, 8); }", "buf"),
        ("uprobe:/x:f { @ = buf((@n), 8); }", "buf"),
        ("uprobe:/x:f { $t = (@n, 1); @ = str($t.0); }", "str"),
        ("uprobe:/x:f { for ($kv : @m) { @ = str($kv.1); } }", "str"),
        ("uprobe:/x:f { @ = buf(arg0 ? 0xffffffff81000000 : 0, 8); }", "buf"),
        ("uprobe:/x:f { @ = str((uint8 *)arg0 ? @n : @n); }", "str"),
        ("uprobe:/x:f { @ = join(@n); }", "join"),
        ("uprobe:/x:f { @ = str((uint64)@n); }", "str"),
        ("kprobe:f { @ = str(arg0); }", "str"),
        ("kprobe:f { @ = buf /* c */ (arg0, 4); }", "buf"),
        ("kprobe:f, uprobe:/x:f { @ = str(arg0); }", "str"),
        ("k*:f { @ = str(arg0); }", "str"),
        ("profile:hz:9 { @ = str(arg0); }", "str"),
        ("BEGIN { @ = *(uint64 *)0xffffffff81000000; }", "*"),
        ("kprobe:f { @ = (uint64)*arg0; }", "*"),
        ("kprobe:f { @ = ((struct file *)arg0)->f_pos; }", "struct"),
        ("kprobe:f { $x = arg0; @ = $x->y; }", ">"),
        ("fentry:f { @ = args.file->f_pos; }", ">"),
        ("fentry:f { @ = args.file.f_pos; }", "."),
        ("fentry:f { @ = args.file[1]; }", "["),
        ("fentry:f { $t = (1, args.file); @ = $t.1.f_pos; }", "."),
        ("fentry:f { print(*args.skb); }", "*"),
        ("kprobe:f { @ = (Foo)arg0; }", "Foo"),
        ("kprobe:f { @ = sarg1; }", "sarg1"),
        ("t:syscalls:sys_enter_open { @ = str(args->filename + 0); }", "str"),
        ("t:syscalls:sys_enter_open, t:sched:x { @ = str(args->filename); }", "str"),
        ("t:*:sys_enter_open { @ = str(args->filename); }", "str"),
        ("t:syscalls:sys_enter_open { @ = str(args->x->y); }", "str"),
        ("rt:sys_enter { @ = str(args->filename); }", "str"),
        ("macro m(x) { *x } uprobe:/x:f { @ = m(arg0); }", "*"),
        ("fn f($x : uint64) : uint64 { return *$x; } uprobe:/x:f { }", "*"),
        ("kprobe:f { @p = arg0; } uprobe:/x:f { @ = *(uint64 *)@p; }", "@"),
        ("fentry:f { @p[1] = args.file; } uprobe:/x:f { @q = @p[1]->f_pos; }", "@q"),
        # A parameter's text is the program's own, as an address it is any.
        ("BEGIN { @ = buf($1, 64); }", "buf"),
        ("uprobe:/x:f { @ = buf($1, 64); }", "buf"),
        ("uprobe:/x:f { @ = *$1; }", "*"),
        ("uprobe:/x:f { @ = **$1; }", "*"),
        ("BEGIN { join($1); }", "join"),
        ("uprobe:/x:f { join($1); }", "join"),
        ("uprobe:/x:f { @ = macaddr($1); }", "macaddr"),
        ("BEGIN { @ = macaddr($1); }", "macaddr"),
        ("uprobe:/x:f { @ = buf(($1), 8); }", "buf"),
        ("uprobe:/x:f { @ = str($1 + 100000); }", "str"),
        ('uprobe:/x:f { @ = buf("x", 64); }', "buf"),
        ("t:syscalls:sys_enter_open { @ = buf($1, 8); }", "buf"),
        # What a process's number leads to is a number like any other.
        ("uprobe:/x:f { @ = **arg0; }", "*"),
        ("uretprobe:/x:f { @ = **retval; }", "*"),
        ('uprobe:/x:f { @ = **reg("di"); }', "*"),
        ("uprobe:/x:f { @ = **uptr(arg0); }", "*"),
        ("uprobe:/x:f { @ = ***(uint64 *)arg0; }", "*"),
        ("uprobe:/x:f { @ = **((struct x *)arg0)->a; }", "*"),
        ("uprobe:/x:f { @ = **args.a; }", "*"),
        ("uprobe:/x:f { @ = *((*arg0)); }", "*"),
        ("uprobe:/x:f { @ = *(*arg0 + 8); }", "*"),
        ("uprobe:/x:f { @ = buf(*arg0, 8); }", "buf"),
        ("uprobe:/x:f { @ = buf((*arg0), 8); }", "buf"),
        ("uprobe:/x:f { @ = buf(*arg0 + 8, 8); }", "buf"),
        ("uprobe:/x:f { @ = buf(*uptr(arg0), 8); }", "buf"),
        ("uprobe:/x:f { @ = str(*arg0); }", "str"),
        ("uprobe:/x:f { @ = str(**(uint64 *)arg0); }", "str"),
        ("uretprobe:/x:f { @ = str(*retval); }", "str"),
        ("uprobe:/x:f { @ = macaddr(*arg0); }", "macaddr"),
        ("uprobe:/x:f { join(*arg0); }", "join"),
        ("usdt:/x:p { @ = str(*arg0); }", "str"),
        ("uprobe:/x:f { $x = *arg0; @ = *$x; }", "*"),
        ("uprobe:/x:f { $t = (*arg0, 1); @ = *$t.0; }", "*"),
        ("uprobe:/x:f { @ = *(arg0, @n).1; }", "*"),
        ("uprobe:/x:f { @ = *-arg0; }", "*"),
        ("uprobe:/x:f { @ = *(pid ? arg0 : arg1); }", "*"),
        ("uprobe:/x:f { @ = *curtask->thread.fsbase; }", "*"),
        # Casts to arrays, after which * follows a pointer.
        ("kprobe:f { @ = (uint8[8])*arg0; }", "*"),
        ("BEGIN { @ = (uint8[8])*$1; }", "*"),
        ("uprobe:/x:f { @ = (uint8[8])*@n; }", "*"),
        # Addresses of maps and variables; an index leads on from there.
        ("uprobe:/x:f { $x = 1; $p = &$x; @ = $p[100]; }", "&"),
        ("uprobe:/x:f { @ = 1 &&&$x; }", "&"),
        ("uprobe:/x:f { @ = 1 & &$x; }", "&"),
        ("uprobe:/x:f { @ = (uint64)&@s; }", "&"),
        # A member that is called args, and args as a whole.
        ("fentry:f { print(args.args.exit_signal); }", "."),
        ("fentry:f { print(args.args->exit_signal); }", ">"),
        ("fentry:f { print(args->args->exit_signal); }", ">"),
        ("t:syscalls:sys_enter_open { @s = args; } uprobe:/x:f { @ = @s->x; }", "args"),
        # Macros that are called as builtins.
        ("macro reg(x) { 5 } uprobe:/x:f { @ = *reg(1); }", "reg"),
        ("macro /* x */ uptr(x) { 5 } kprobe:f { @ = str(uptr(1)); }", "uptr"),
        ("macro m(args) { args.file } fentry:f { @ = m(args.x); }", "args"),
        ("macro arg0() { 5 } uprobe:/x:f { @ = *arg0(); }", "arg0"),
        ("iter:task { }", "iter:task"),
        ("#define P curtask\nuprobe:/x:f { @ = P->pid; }", "#define P curtask"),
    ],
)
def test_the_kernels_memory_can_not_be_read(text: str, part: str) -> None:
    assert ("kernelMemory: false", part) in refused(text, NO_KERNEL)


@pytest.mark.parametrize(
    "text",
    [
        "kprobe:f { @[arg0, retval, comm] = count(); @b = arg1 * 2 + $1 * (pid + 1); }",
        'kprobe:f { @[kstack, reg("ip")] = hist(arg0 * @x[1] * nsecs); }',
        "fentry:f { @[args.size] = sum(args->count * 2); }",
        "kprobe:f { @ = str(uptr(arg1)); @b = buf(uptr (arg0 + 8), 4); @c = str($1, 5); }",
        "tracepoint:sched:sched_process_exit { @[comm, args->prio] = count(); }",
        "kprobe:f { @a = (uint64)arg0; $i = 0; while ($i < 3) { $i++ } for ($j : 0..5) { @b++ } }",
        "kprobe:f { $t = (1, 2); @ = $t.0 * $t.1; }",
        "kprobe:f { @p = arg0; } uprobe:/x:f { @ = count(); }",
        "kprobe:f { @p = count(); } uprobe:/x:f { @ = str(arg0); }",
    ],
)
def test_values_of_the_kernel_are_no_reads_of_its_memory(text: str) -> None:
    assert refused(text, NO_KERNEL) == []


@pytest.mark.parametrize("name", ["system", "signal", "override", "signal_thread"])
def test_unsafe_functions_are_refused(name: str) -> None:
    assert refused(f'uprobe:/x:f {{ {name}("x"); }}', SAFE) == [("unsafe: false", name)]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("uprobe:/x:f { @ = kstack; }", "kstack"),
        ("uprobe:/x:f { @ = __builtin_kstack; }", "__builtin_kstack"),
        ("uprobe:/x:f { @[1,system]=1 }", "system"),
        ("uprobe:/x:f /kstack/ { }", "kstack"),
        ("uprobe:/x:f { $x.system(1); }", "system"),
        ("uprobe:/x:f { for ($i : 0..kstack) { } }", "kstack"),
        ("uprobe:/x:f { m(system) } macro m(f) { f }", "system"),
        ('macro m() { system("x") } uprobe:/x:f { m() }', "system"),
        ('fn f() : void { system("x"); } uprobe:/x:f { f() }', "system"),
        ('#define S sys tem\nuprobe:/x:f { S("x"); }', "#define S sys tem"),
        ("#define S(x) system(x)\nuprobe:/x:f { }", "#define S(x) system(x)"),
        ('uprobe:/x:f { @ = 1system("x"); }', "1system"),
        ('uprobe:/x:f { @ = $1system("x"); }', "$1system"),
        ('uprobe:/x:f { @1system("x"); }', "@1system"),
    ],
)
def test_a_denied_function_can_not_be_written_otherwise(text: str, part: str) -> None:
    rules = {rule for rule, found in refused(text, DENIED) if found == part}
    assert rules == {"deniedFunctions"}


@pytest.mark.parametrize(
    "text",
    [
        'uprobe:/x:f { printf("system kstack"); @system = 1; @["system"]++; }',
        "uprobe:/x:f { $kstack = args->system; @ = $kstack; }",
        "uprobe:/x:system { } // system()\n",
        "uprobe:/x:f { /* kstack */ @ = args.kstack; }",
        "struct a { int system; }; uprobe:/x:f { @ = ((struct a *)arg0)->system; }",
    ],
)
def test_a_denied_functions_name_may_stand_elsewhere(text: str) -> None:
    assert refused(text, DENIED) == []


@settings(deadline=None)
@given(programs(), st.data(), SPACE, SPACE)
def test_wherever_a_denied_function_is_called_it_is_found(
    text: str, data: st.DataObject, before: str, after: str
) -> None:
    blocks = [block for block in syntax.parse(text).code if text[block.start] == "{"]
    assume(blocks)
    place = data.draw(st.sampled_from(blocks)).start + 1
    call = f"{before} system{after}("
    changed = f'{text[:place]}{call}"x"); {text[place:]}'
    start = place + len(before) + 1
    assert any(
        each.span == (start, start + len("system")) and each.message == "system is denied"
        for each in refusals(changed, DENIED)
    )


@settings(deadline=None)
@given(near_programs(), st.sampled_from([DENIED, SCOPED, NO_KERNEL, SAFE, ALL]))
def test_any_program_is_checked_in_the_texts_order(text: str, rules: Rules) -> None:
    try:
        found = refusals(text, rules)
    except ProgramError:
        return
    assert [each.span for each in found] == sorted(each.span for each in found)
    assert all(0 <= each.span.start < each.span.end <= len(text) for each in found)


@settings(deadline=None)
@given(st.text('ks(){}/*"\\\n$@#.->=; ', max_size=40), st.sampled_from(["kstack", "system"]))
def test_a_name_that_is_left_of_a_text_without_strings_and_comments_is_found(
    around: str, name: str
) -> None:
    text = f"k:f {{ {around} {name} }}"
    try:
        found = refusals(text, DENIED)
    except ProgramError:
        return
    # Written anew, as simply as it can be.
    bare = re.sub(r'//[^\n]*|/\*.*?\*/|"(?:[^"\\\n]|\\[^\n])*"', " ", text, flags=re.DOTALL)
    bare = re.sub(r"([$@.]|->)\s+", r"\1", bare.replace("--", " "))
    if re.search(rf"(?<![\w$@.])(?<!->){name}\b", bare) and "#" not in text:
        assert found


@pytest.mark.parametrize(
    ("patterns", "text", "allowed"),
    [
        (("uprobe",), "uprobe:/bin/x:f {} u:libc:g {}", True),
        (("uprobe",), "uretprobe:/bin/x:f {}", False),
        (("u",), "uprobe:/bin/x:f {} BEGIN {} END {} interval:s:1 {}", True),
        (("uprobe",), "u*:/bin/x:f {}", False),
        (("tracepoint:syscalls:*",), "t:syscalls:sys_* {}", True),
        (("tracepoint:syscalls:*",), "tracepoint:sys*:x {}", False),
        (("tracepoint:syscalls:*",), "tracepoint:sched:x {}", False),
        (("tracepoint:syscalls:sys_enter_*",), "t:syscalls:sys_enter_[ab]* {}", True),
        (("tracepoint:syscalls:sys_enter_*",), "t:syscalls:sys_e* {}", False),
        (("uprobe:/usr/*",), "uprobe:/usr/bin/x:f {}", True),
        (("uprobe:/usr/*",), "uprobe:/bin/x:f {}", False),
        (("uprobe:/usr/bin/x:f",), 'uprobe:"/usr/bin/x":f {}', True),
        ((), "uprobe:/usr/bin/x:f {}", False),
        ((), "BEGIN { exit() }", True),
        (("kprobe",), "x=kprobe:f {}", True),
        (("uprobe",), "nothing:f {}", False),
        (("uprobe:/usr/bin/*",), "uprobe:/usr/bin/../lib/libssl.so:SSL_write {}", False),
        (("uprobe:/usr/bin/*",), "uprobe:/usr/bin//x:f {}", False),
        (("uprobe:/usr/bin/*",), "uprobe:/usr/bin/.?/lib/x:f {}", False),
        (("uprobe:/usr/bin/*",), "uprobe:/usr/bin/x*:f {}", True),
        (("uprobe:/usr/bin/*",), "uprobe:/usr/bin/a.b/c*:f {}", True),
        (("uprobe:lib*",), "uprobe:libc:f {}", True),
        (("kprobe:nf_*",), "kprobe:nf_hook {} kprobe:nf_tables:nf_x {}", True),
        (("kprobe:nf_*",), "kprobe:nf_tables:foo {}", False),
        (("fentry:vmlinux:nf_*",), "fentry:vmlinux:nf_x {}", True),
    ],
)
def test_probes_are_those_of_the_patterns(
    patterns: tuple[str, ...], text: str, allowed: bool
) -> None:
    assert all(map(policy.is_pattern, patterns))
    assert (refused(text, Rules(probes=patterns)) == []) == allowed


@pytest.mark.parametrize(
    "text", ["", "nothing", "u*", "*", "tracepoint:*x", "uprobe::f", "uprobe:a b", "kprobe:f[ab]"]
)
def test_other_patterns_of_probes_are_none(text: str) -> None:
    assert not policy.is_pattern(text)


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        (("--unsafe",), {}, "--unsafe"),
        (("-I", "/x"), {}, "-I"),
        (("--include=/etc/shadow",), {}, "--include"),
        (("-p", "1"), {}, "-p"),
        (("--usdt-file-activation",), {}, "--usdt-file-activation"),
        (("-B", "-e"), {"BPFTRACE_BTF": "/x"}, "BPFTRACE_BTF"),
        ((), {"LD_PRELOAD": "/x"}, "LD_PRELOAD"),
        ((), {"BPFTRACE_KERNEL_SOURCE": "/x"}, "BPFTRACE_KERNEL_SOURCE"),
        (("-c", "id"), {}, "-c"),
    ],
)
def test_options_that_bring_in_more_are_refused(
    options: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    (message,) = policy.check_options(options, environment, SAFE)
    assert said in message
    assert policy.check_options(options, environment, Rules()) == []


def test_options_of_the_output_and_of_room_are_allowed() -> None:
    options = ("-B", "none", "-v", "--no-warnings", "--unsafe")
    rules = replace(ALL, unsafe=True)
    assert policy.check_options(options, {"BPFTRACE_MAX_STRLEN": "9"}, rules) == []
