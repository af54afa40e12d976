from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.functions import patterns
from kubectl_trace.functions.patterns import PatternError

METHOD = "main.(*Server).Close"


def matches(pattern: str, name: str) -> bool:
    return patterns.parse(pattern).matches(name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("main", "main"),
        ("ngx_*", "ngx_unix_recv"),
        ("*recv", "ngx_unix_recv"),
        ("f?o", "foo"),
        ("f[aeo]o", "foo"),
        ("f[!a]o", "foo"),
        (METHOD, METHOD),
        ("main.*", METHOD),
        ("main.(*).Close", METHOD),
        ("*.Close", METHOD),
        ("main.Map[...]", "main.Map[...]"),
        ("main.*[...]", "main.Map[...]"),
        ("main.Map[...].func*", "main.Map[...].func1"),
        ("main.(*List[...]).P*", "main.(*List[...]).Push"),
        ("V::operator[]", "V::operator[]"),
        ("*::operator[]", "V::operator[]"),
        ("operator()", "operator()"),
        ("std::vector<int>::*", "std::vector<int>::push_back"),
        ("operator*", "operator*"),
        ("operator*", "operator*="),
        ("a.b", "a.b"),
        ("/^ngx_.*recv$/", "ngx_unix_recv"),
        ("/recv/", "ngx_unix_recv"),
        ("//", "anything"),
        ("/", "/"),
    ],
)
def test_a_pattern_means_a_name(pattern: str, name: str) -> None:
    assert matches(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("main", "main2"),
        ("main", "xmain"),
        ("a.b", "axb"),
        ("ngx_*", "xngx_"),
        ("f?o", "fo"),
        ("f[!a]o", "fao"),
        ("main.Map[...]", "main.Map."),
        ("main.*[...]", "main.Map]...]"),
        ("V::operator[]", "V::operator"),
        ("/^recv/", "ngx_unix_recv"),
        ("main", "main\n"),
    ],
)
def test_a_pattern_does_not_mean_a_name(pattern: str, name: str) -> None:
    assert not matches(pattern, name)


def test_the_star_of_a_pointer_receiver_is_a_star() -> None:
    # Whoever names a method does not mean those of all types whose names end so.
    assert not matches(METHOD, "main.(*HTTPServer).Close")
    assert not matches(METHOD, "main.(Server).Close")


@pytest.mark.parametrize(
    ("pattern", "is_exact"),
    [
        ("main", True),
        (METHOD, True),
        ("main.Map[...]", True),
        ("main.(*List[...]).Push", True),
        ("ngx_*", False),
        ("f?", False),
        ("f[ab]", False),
        ("/main/", False),
    ],
)
def test_a_pattern_without_wildcards_is_exact(pattern: str, is_exact: bool) -> None:
    assert patterns.parse(pattern).is_exact == is_exact


@given(st.text(min_size=1, max_size=40).filter(str.isprintable))
def test_every_name_is_matched_by_itself(name: str) -> None:
    if not (len(name) > 1 and name.startswith("/") and name.endswith("/")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert matches(name, name)


TEXTS = (
    st.text()
    | st.text("/[](){}*?+\\|^$.a1,-!", max_size=30)
    | st.text("[](){}*?+\\|^$.a1,-!", max_size=30).map(lambda inner: f"/{inner}/")
)


def check(error: PatternError) -> None:
    assert str(error).isprintable()
    assert str(error)


@given(TEXTS)
def test_any_text_is_a_pattern_or_refused(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            patterns.parse(text)
        except PatternError as error:
            check(error)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\nb",
        "a\0",
        "\x1b[31m",
        "x" * 1001,
        "/(/",
        "/[a/",
        "/*/",
        "/a{2,1}/",
        "/a{99999999999999999999}/",
        f"/{'(' * 499}{')' * 499}/",
    ],
)
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(PatternError):
        patterns.parse(text)


def test_any_pattern_may_mean_any_name() -> None:
    every = [patterns.parse("a"), patterns.parse("b*")]
    assert patterns.matching(every, ("x", "bc"))
    assert not patterns.matching(every, ("x", ""))
    assert not patterns.matching([], ("x",))
    # A function without a second name is not matched by what matches nothing.
    assert not patterns.matching([patterns.parse("//")], ("", ""))
