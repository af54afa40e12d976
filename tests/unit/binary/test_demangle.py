from __future__ import annotations

import shutil
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.binary.demangle import demangle, language, short

HASH = "17h0123456789abcdefE"


@pytest.mark.parametrize(
    ("name", "readable", "name_alone"),
    [
        ("_ZN2ns3FooIiE1fEi", "ns::Foo<int>::f(int)", "ns::Foo<int>::f"),
        ("_ZNK2ns5ClassIiE1fEi", "ns::Class<int>::f(int) const", "ns::Class<int>::f"),
        ("_ZN12_GLOBAL__N_11fEv", "(anonymous namespace)::f()", "(anonymous namespace)::f"),
        ("_ZN1AC1Ei", "A::A(int)", "A::A"),
        ("_ZN1AD2Ev", "A::~A()", "A::~A"),
        (
            "_ZNKSt3__18functionIFivEEclEv",
            "std::__1::function<int ()>::operator()() const",
            "std::__1::function<int ()>::operator()",
        ),
        ("_ZltRK1AS1_", "operator<(A const&, A const&)", "operator<"),
        ("_ZNR1AaSEOS_", "A::operator=(A&&) &", "A::operator="),
        ("_ZdlPv", "operator delete(void*)", "operator delete"),
        ("_ZN1AcviEv", "A::operator int()", "A::operator int"),
        (
            "_ZSt4moveIRiEONSt16remove_referenceIT_E4typeEOS2_",
            "std::remove_reference<int&>::type&& std::move<int&>(int&)",
            "std::move<int&>",
        ),
        (
            "_ZZNK1A1fEiENKUlvE_clEv",
            "A::f(int) const::'lambda'()::operator()() const",
            "A::f(int) const::'lambda'()::operator()",
        ),
        ("_ZThn8_N1A1fEv", "non-virtual thunk to A::f()", "non-virtual thunk to A::f"),
        ("_Z1fIiEPFvcEi", "void (*f<int>(int))(char)", "void (*f<int>(int))(char)"),
        ("_Z1fB5cxx11v", "f[abi:cxx11]()", "f[abi:cxx11]"),
    ],
)
def test_cxx(name: str, readable: str, name_alone: str) -> None:
    assert demangle(name) == readable
    assert short(readable) == name_alone
    assert language(name) == "C++"


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("_ZN4core3fmt9Formatter9write_fmt" + HASH, "core::fmt::Formatter::write_fmt"),
        (
            "_ZN50_$LT$T$u20$as$u20$core..convert..Into$LT$U$GT$$GT$4into" + HASH,
            "<T as core::convert::Into<U>>::into",
        ),
        (
            "_ZN4core3ptr48drop_in_place$LT$$RF$$u5b$u8$u5d$$C$$LP$$RP$$GT$" + HASH,
            "core::ptr::drop_in_place<&[u8],()>",
        ),
        ("_RNvCs15kBYyAo9fc_7mycrate7example", "mycrate::example"),
        ("_RNCNvCs15kBYyAo9fc_7mycrate4main0", "mycrate::main::{closure#0}"),
        (
            "_RINvNtC3std3mem8align_ofjE",
            "std::mem::align_of::<usize>",
        ),
        ("_RNvXC1aNtB2_1TNtB2_1I1f", "<a::T as a::I>::f"),
        ("_RNvYlNtC1a1T1f", "<i32 as a::T>::f"),
    ],
)
def test_rust(name: str, readable: str) -> None:
    assert demangle(name) == readable
    assert short(readable) == readable
    assert language(name) == "Rust"


@pytest.mark.parametrize(
    ("name", "readable", "name_alone"),
    [
        ("_Z3fooi.isra.0", "foo(int) [clone .isra.0]", "foo"),
        ("_ZNK1A1fEv.constprop.0", "A::f() const [clone .constprop.0]", "A::f"),
        ("_Z3fooi.part.0.cold", "foo(int) [clone .part.0.cold]", "foo"),
        ("_RNvNtCs1234_7mycrate3foo3bar.llvm.12", "mycrate::foo::bar [clone .llvm.12]", None),
        (f"_ZN3foo3bar{HASH}.llvm.12", "foo::bar [clone .llvm.12]", None),
    ],
)
def test_the_compilers_variants_of_a_function_are_told_apart(
    name: str, readable: str, name_alone: str | None
) -> None:
    assert demangle(name) == readable
    assert short(readable) == (name_alone or readable.partition(" ")[0])


@pytest.mark.parametrize(
    "name",
    [
        "",
        "main",
        "foo.isra.0",
        "main.(*T).Method",
        "_start",
        "_RNG_init",
        "_Read",
        "_R",
        "?f@@YAXXZ",
    ],
)
def test_names_that_are_not_mangled_stay_as_they_are(name: str) -> None:
    assert demangle(name) == name
    assert short(name) == name
    assert language(name) == ""


@pytest.mark.parametrize(
    "name",
    ["_Z", "_Zbad", "_ZN1a", "_RNvC1a", "_RNvC9999a1b", f"_ZN9999foo{HASH}", "_Z1f\0", "_Z3fö"],
)
def test_broken_names_stay_as_they_are(name: str) -> None:
    assert demangle(name) == name


@pytest.mark.parametrize(
    ("demangled", "name_alone"),
    [
        ("operator<< <char>(char)", "operator<< <char>"),
        ("bool operator<<A>(A, A)", "operator<<A>"),
        ("A<(1 > 2)>::f()", "A<(1 > 2)>::f"),
        ("A<(x->y)>::operator->() const", "A<(x->y)>::operator->"),
        ("decltype(auto) ns::f<int>(int) noexcept", "ns::f<int>"),
        ("foo(int)::{lambda(char)#1}::operator()(char) const", None),
        ("<(A, B) as T>::f", "<(A, B) as T>::f"),
        ("f<(", "f<("),
        (")))", ")))"),
        ("()", "()"),
    ],
)
def test_the_name_alone_has_no_parameters(demangled: str, name_alone: str | None) -> None:
    assert short(demangled) == (name_alone or demangled.removesuffix("(char) const"))


def number(value: int, digits: str) -> str:
    """A sequence number as in `S_`, `S0_`, `SA_`."""
    text = ""
    while value > 0:
        value -= 1
        text = digits[value % len(digits)] + text
        value //= len(digits)
        value += bool(value)
    return text


def doubled(times: int) -> str:
    """A C++ name with a type that has itself twice in it, and so on."""
    base36 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    name = "_Z1f1AI1XS0_E"
    for level in range(times):
        reference = f"S{number(level + 2, base36)}_"
        name += f"S_I{reference}{reference}E"
    return name


BOMBS = [
    doubled(30),
    # Every argument of a pack, for every argument of the pack, …
    "_Z1fIJ" + "i" * 20 + "EEv" + "Dp1AIT_Dp1BIT_" * 4 + "EE" * 4,
    "_Z1fIJ" + "i" * 2000 + "EEv" + "Dp1AIT_" * 150 + "i" + "E" * 150,
    "_RIC1aTllE" + "".join(f"TB{c}_B{c}_E" for c in "45678bcdefghijklmnopqrstuv" * 3) + "E",
    "_Z1fIJ" + "i" * 50 + "EEDT" + "flplcv1AIT_" * 5 + "Li1E" + "E" * 6 + "v",
    # Two, three and four of them by two hundred of the last.
    "_Z1f1AI1AS_EI" + "S000000000000_" * 200 + "E",
    "_Z1f" + "P" * 100_000 + "i",
    "_Z1f" + "P" * 4000 + "i" * 50,
    "_RMC0" + "R" * 3000 + "l",
    "_Z1f" + "S_" * 2000,
    "_Z1f1A" + "T_" * 2000,
]


@pytest.mark.parametrize("name", BOMBS, ids=range(len(BOMBS)))
def test_names_made_to_grow_are_quick(name: str) -> None:
    started = time.process_time()
    assert len(demangle(name)) <= max(len(name), 16384)
    assert time.process_time() - started < 2


def test_a_name_with_many_references_that_does_not_grow_is_readable() -> None:
    assert demangle("_Z1f1A" + "S_" * 40) == f"f(A{', A' * 40})"
    assert demangle("_Z1fIJ1A1BEEvDpKT_") == "void f<A, B>(A const, B const)"


@pytest.mark.skipif(not shutil.which("c++filt"), reason="no binutils")
def test_agrees_with_binutils_about_real_names() -> None:
    names = [
        "_ZNSt6vectorIiSaIiEE9push_backERKi",
        "_ZNSt8_Rb_treeIiSt4pairIKiiESt10_Select1stIS2_ESt4lessIiESaIS2_EE8_M_eraseEPSt13_Rb_tree_nodeIS2_E",
        "_ZN9__gnu_cxx13new_allocatorIcE8allocateEmPKv",
    ]
    said = subprocess.run(["c++filt", *names], check=True, capture_output=True, text=True)
    # Binutils write `> >`, as C++ before 2011 did.
    assert [demangle(name) for name in names] == said.stdout.replace(" >", ">").splitlines()


@given(st.text(max_size=50))
def test_any_text_has_a_name(text: str) -> None:
    for name in (text, "_Z" + text, "_R" + text, f"_ZN{text}{HASH}"):
        assert isinstance(short(demangle(name)), str)
        assert language(name) in ("", "C++", "Rust")


@given(
    st.sampled_from(["_ZNSt6vectorIiSaIiEE9push_backERKi", *BOMBS[:4]]),
    st.lists(st.tuples(st.integers(2, 200), st.sampled_from("_S0TIJEDpNK1iFvX")), max_size=8),
)
def test_a_changed_name_is_no_error(name: str, changes: list[tuple[int, str]]) -> None:
    for at, character in changes:
        name = name[:at] + character + name[at + 1 :]
    assert len(demangle(name)) <= max(len(name), 16384)
