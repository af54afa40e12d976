from __future__ import annotations

import pytest

from kubectl_trace.program import maps, syntax
from kubectl_trace.program.keys import Keys
from kubectl_trace.program.rewrite import Rewritten


def extended(statements: str) -> str | None:
    """The statements with a part before @m's keys; None: a key is not known well enough."""
    text = f"macro mac() {{ 1 }} k:f {{ {statements} }}"
    program = syntax.parse(text)
    keys = Keys(program)
    uses = [use for use in maps.find(program)["@m"].uses if use.action != "printed"]
    if not all(map(keys.can_be_extended, uses)):
        return None
    edits = [edit for use in uses for edit in keys.extended(use, "$c", "")]
    return Rewritten.of(text).edit(edits).text.partition("k:f { ")[2].removesuffix(" }")


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ("@m = count()", "@m[$c] = count()"),
        ("++@m; print(@m)", "++@m[$c]; print(@m)"),
        ("@m[pid] = 1", "@m[$c, pid] = 1"),
        ("@m[pid, comm]++", "@m[$c, pid, comm]++"),
        ("@m[ /* x */ 1]++", "@m[$c,  /* x */ 1]++"),
        ("delete(@m[1])", "delete(@m[$c, 1])"),
        ("delete(@m, 1)", "delete(@m[$c, 1])"),
        ("delete(@m, (1, 2))", "delete(@m[$c, 1, 2])"),
        ("delete(@m)", "delete(@m[$c])"),
        ("@m[(1, 2)] = 1", "@m[$c, 1, 2] = 1"),
        ("@m[((1, (2, 3)))] = 1", "@m[$c, 1, (2, 3)] = 1"),
        ("@m[(1, 2), 3] = 1", "@m[$c, (1, 2), 3] = 1"),
        ("@m[(pid)] = 1", "@m[$c, (pid)] = 1"),
        ("$t = (1, 2); @m[$t] = 1", "$t = (1, 2); @m[$c, $t.0, $t.1] = 1"),
        ("$t = (1, 2); @m[($t)] = 1", "$t = (1, 2); @m[$c, $t.0, $t.1] = 1"),
        ("$u = (1, 2); $t = $u; @m[$t] = 1", "$u = (1, 2); $t = $u; @m[$c, $t.0, $t.1] = 1"),
        ("$x = 5; @m[$x] = 1", "$x = 5; @m[$c, $x] = 1"),
        ("$x = (int8)pid; @m[$x] = 1", "$x = (int8)pid; @m[$c, $x] = 1"),
        ("@m[(uint64)pid] = 1", "@m[$c, (uint64)pid] = 1"),
        ('@m[1 ? "a" : "b"] = 1', '@m[$c, 1 ? "a" : "b"] = 1'),
        ("@x[tid] = 3; @m[@x[tid]] = 1", "@x[tid] = 3; @m[$c, @x[tid]] = 1"),
        ("@m[args->x] = 1", "@m[$c, args->x] = 1"),
        ("@m[ustack(3)] = 1", "@m[$c, ustack(3)] = 1"),
        ("@m[$1] = 1", "@m[$c, $1] = 1"),
        ("@m[$x] = 1", None),
        ("$x = $x; @m[$x] = 1", None),
        ("$t = (1, 2); $t = (1, 2, 3); @m[$t] = 1", None),
        ("$t = (1, 2); $t = 3; @m[$t] = 1", None),
        ("$t = (1, (2, 3)); @m[$t.1] = 1", None),
        ("for ($kv : @x) { @m[$kv] = 1 }", None),
        ("@x[1] = (1, 2); @m[@x[1]] = 1", None),
        ("@m[mac()] = 1", None),
        ("@m[pid ? (1, 2) : (3, 4)] = 1", None),
        ("@m[{ 1 }] = 1", None),
    ],
)
def test_a_part_is_put_before_the_keys(statements: str, expected: str | None) -> None:
    assert extended(statements) == expected
