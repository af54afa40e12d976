"""Functions of Python, PHP, Java and Ruby, by their runtimes' USDT probes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.functions import filters, runtimes, writing
from kubectl_trace.functions.patterns import PatternError
from kubectl_trace.program import scope, syntax

MARKS = writing.Marks("0123456789abcdefc")
PATH = "/proc/self/fd/7"


def wanted(text: str) -> runtimes.Wanted:
    found = runtimes.parse(text)
    assert found is not None
    return found


def program(*texts: str, options: writing.Options | None = None, people: bool = False) -> str:
    marks = None if people else MARKS
    options = options or writing.Options()
    return runtimes.write(0, PATH, [wanted(text) for text in texts], options, marks)


@pytest.mark.parametrize(
    ("text", "owner", "function"),
    [
        ("python:main", "", "main"),
        ("php:greet", "", "greet"),
        ("php:Account::deposit", "Account", "deposit"),
        ("php:Account::*", "Account", "*"),
        ("java:com.shop.Cart.add", "com/shop/Cart", "add"),
        ("ruby:Calls#fib", "Calls", "fib"),
        ("python:*", "", "*"),
    ],
)
def test_a_name_of_a_runtime_is_its_class_and_its_function(
    text: str, owner: str, function: str
) -> None:
    found = wanted(text)
    assert (found.owner, found.function) == (owner, function)


@pytest.mark.parametrize("text", ["main.f", "shop::Cart::add", "perl:main", "python", "std::f"])
def test_other_names_are_of_no_runtime(text: str) -> None:
    assert runtimes.parse(text) is None


@pytest.mark.parametrize(
    "text", ["php:a*b", "python:f[ab]", 'python:a"b', "python:a\\b", "python:a\nb", "php:Account::"]
)
def test_what_the_kernel_can_not_tell_is_refused(text: str) -> None:
    with pytest.raises(PatternError):
        runtimes.parse(text)


def test_names_are_chosen_in_the_kernel() -> None:
    text = program("php:Account::deposit", "php:fi*")
    assert 'str(arg0) == "deposit" && str(arg3) == "Account"' in text
    assert 'strncmp(str(arg0), "fi", 2) == 0' in text
    assert "/" not in program("php:*").partition("{")[0].replace(PATH, "").replace("//", "")


OPTIONS = st.builds(
    writing.Options,
    show=st.sampled_from(["calls", "latency", "count"]),
    returns=st.booleans(),
    stack=st.booleans(),
    most=st.sampled_from([0, 5]),
)


@given(
    st.sampled_from(["python:f", "php:A::*", "java:a.B.c", "ruby:A#b", "ruby:*"]),
    OPTIONS,
    st.booleans(),
)
def test_every_program_is_one_that_can_be_limited(
    text: str, options: writing.Options, people: bool
) -> None:
    own = "" if people else writing.own_probes(MARKS)
    parsed = syntax.parse(program(text, options=options, people=people) + own)
    assert scope.limit(parsed, scope.by_namespace(parsed))


def test_what_a_runtime_does_not_tell_is_refused_with_the_reason() -> None:
    with pytest.raises(PatternError, match="no arguments and no results"):
        program("php:f", options=writing.Options(show="returns"))
    with pytest.raises(PatternError, match="no arguments and no results"):
        program("php:f", options=writing.Options(condition=filters.parse("ret > 1")))


def said(number: int, head: str, *texts: str) -> str:
    return f"{MARKS.begin}{number},{head}" + "".join(f"{MARKS.part}{text}" for text in texts)


def test_a_call_is_read_back_with_its_class_and_place() -> None:
    runtime = wanted("php:f").runtime
    text = said(runtimes.FIRST_NUMBER, "1,7,8,1000,50,12", "Account", "deposit", "/a.php")
    found = runtimes.read(text, [runtime], MARKS, has_stack=False)
    assert found is not None
    assert (found.function, found.place) == ("Account::deposit", "/a.php:12")
    assert (found.pid, found.tid, found.begun, found.took) == (7, 8, 1000, 50)


def test_a_java_class_is_written_with_dots() -> None:
    runtime = wanted("java:a.B.c").runtime
    text = said(runtimes.FIRST_NUMBER, "1,7,8,1000,50,0", "java/lang/Thread", "sleep")
    found = runtimes.read(text, [runtime], MARKS, has_stack=False)
    assert found is not None
    assert (found.function, found.place) == ("java.lang.Thread.sleep", "java")


@given(st.text())
def test_no_text_with_our_marks_is_too_much(text: str) -> None:
    every = list(runtimes.RUNTIMES)
    runtimes.read(MARKS.begin + text, every, MARKS, has_stack=True)
    runtimes.read(said(runtimes.FIRST_NUMBER, text, text), every, MARKS, has_stack=False)
