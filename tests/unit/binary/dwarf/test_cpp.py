from __future__ import annotations

import pytest

from kubectl_trace.binary.dwarf import Place, Subprogram
from kubectl_trace.binary.types import Enumeration, Integer, Opaque, Pointer, Structure
from tests.unit.binary.dwarf.programs import (
    ARGUMENTS,
    compiled,
    debug_info,
    function,
    is_x86_64,
    parameter,
    registers,
)

pytestmark = pytest.mark.skipif(not is_x86_64(), reason="the expected registers are x86-64's")

PROGRAM = """
#include <cstddef>
#include <cstdio>
#define NOINLINE __attribute__((noinline))
namespace outer {
namespace inner {
struct Base { int number; virtual ~Base() {} };
class Widget : public Base {
 public:
  NOINLINE int method(const Widget &other, int &&moved, Widget *pointer) const;
  NOINLINE static int fixed(long value);
  int own = 3;
};
template <typename T> struct Box { T value; NOINLINE T get(int times) { return value * times; } };
}
enum class Kind : unsigned char { First = 1, Last = 200 };
using Alias = inner::Widget;
struct Owner { int *held; Owner(int *p) : held(p) {} ~Owner(); Owner(const Owner &) = delete; };
NOINLINE Owner::~Owner() { puts("gone"); }
struct Copied { int a; Copied(int n) : a(n) {} Copied(const Copied &other) : a(other.a + 1) {} };
struct Plain { int a, b; Plain() = default; int sum() const { return a + b; } };
struct Holder { int first; Copied copied; Holder(int n) : copied(n) {} };
struct Moved {
  int a; Moved() = default; Moved(Moved &&) = default; Moved(const Moved &) = default;
};
struct Moving {
  int a; Moving() = default; Moving(Moving &&) = default; Moving(const Moving &) = delete;
};
struct Pinned { int a; Pinned() = default; Pinned(const Pinned &) = delete; };
NOINLINE int values(Kind kind, Owner owner, Copied copied, Plain plain, Holder holder,
                    Moved moved, Moving moving, Pinned pinned) {
  return printf("%d", int(kind)) + *owner.held + copied.a + plain.sum() + holder.copied.a +
         moved.a + moving.a + pinned.a;
}
NOINLINE int pointers(int (*callback)(int), int (Alias::*function)(), int Plain::*member,
                      std::nullptr_t nothing) {
  return callback(puts("p"));
}
namespace { NOINLINE int hidden(int value) { return printf("%d", value); } }
int use(int value) { return hidden(value); }
}
int outer::inner::Widget::method(const Widget &other, int &&moved, Widget *pointer) const {
  return own + other.own + moved + pointer->own + printf("m");
}
int outer::inner::Widget::fixed(long value) { return printf("%ld", value); }
static inline int doubled(int value) { return value * 2; }
int main(int count, char **) {
  outer::Alias widget;
  outer::inner::Box<long> box{count};
  auto lambda = [&](int given) NOINLINE { return printf("%d", count + given); };
  struct Local { NOINLINE int method(int given) { return printf("%d", given); } } local;
  return widget.method(widget, count + 1, &widget) + widget.fixed(3) + box.get(count) +
         outer::values(outer::Kind::Last, &count, 2, outer::Plain(), 3, outer::Moved(),
                       outer::Moving(), outer::Pinned()) +
         outer::pointers(doubled, nullptr, nullptr, nullptr) + outer::use(count) +
         lambda(doubled(count)) + local.method(count);
}
"""

COMPILERS = [("g++", "-gdwarf-4"), ("g++", "-gdwarf-5"), ("clang++-14", "-g")]


def program(compiler: str, *flags: str) -> bytes:
    return compiled(compiler, PROGRAM, "cc", ("-std=c++17", "-O2", *flags))


def named(compiler: str, flag: str, name: str) -> Subprogram:
    (found,) = debug_info(program(compiler, flag)).named(lambda its: its == name)
    return found


@pytest.mark.parametrize(("compiler", "flag"), COMPILERS)
def test_a_method_has_its_class_and_its_object(compiler: str, flag: str) -> None:
    method = named(compiler, flag, "outer::inner::Widget::method")
    assert (method.name, method.language) == ("method", "C++")
    assert method.linkage_name == "_ZNK5outer5inner6Widget6methodERKS1_OiPS1_"
    assert function(program(compiler, flag), method.linkage_name) == method
    assert [(one.name, one.is_artificial) for one in method.parameters] == [
        ("this", True),
        ("other", False),
        ("moved", False),
        ("pointer", False),
    ]
    assert [registers(one) for one in method.parameters] == [[one] for one in ARGUMENTS[:4]]
    this, other, moved, pointer = (one.type for one in method.parameters)
    assert this.name.startswith("const outer::inner::Widget *")
    assert other.name == "const outer::inner::Widget &"
    assert moved == Pointer("int &&", 8, Integer("int", 4, True))
    assert pointer.name == "outer::inner::Widget *"
    assert isinstance(pointer, Pointer)
    assert isinstance(pointer.to, Structure)
    assert [one.name for one in pointer.to.members] == ["outer::inner::Base", "own"]
    assert method.file.endswith("program.cc")
    assert "Widget::method(" in PROGRAM.splitlines()[method.line - 1]


@pytest.mark.parametrize(("compiler", "flag"), COMPILERS)
def test_a_static_method_has_no_object(compiler: str, flag: str) -> None:
    fixed = named(compiler, flag, "outer::inner::Widget::fixed")
    assert [(one.name, one.is_artificial) for one in fixed.parameters] == [("value", False)]


@pytest.mark.parametrize(("compiler", "flag"), COMPILERS)
def test_what_a_copy_constructor_or_destructor_makes_special_goes_by_reference(
    compiler: str, flag: str
) -> None:
    values = named(compiler, flag, "outer::values")
    trivial = {
        one.name: one.type.is_trivial
        for one in values.parameters
        if isinstance(one.type, Structure)
    }
    assert trivial == {
        "owner": False,
        "copied": False,
        "plain": True,
        "holder": False,
        "moved": True,
        "moving": True,
        "pinned": False,
    }
    kind = parameter(values, "kind").type
    assert kind == Enumeration("outer::Kind", 1, False, (("First", 1), ("Last", 200)))
    assert parameter(values, "owner").places == (Place(ARGUMENTS[1], None, 8, 0),)


@pytest.mark.parametrize(("compiler", "flag"), COMPILERS)
def test_pointers_to_functions_and_members(compiler: str, flag: str) -> None:
    pointers = named(compiler, flag, "outer::pointers")
    callback, function_, member, nothing = (one.type for one in pointers.parameters)
    assert callback == Pointer("int (*)(int)", 8, Opaque("int (int)"))
    assert function_.size == 16
    assert function_.name in ("int (outer::inner::Widget::*)()", "int (outer::Alias::*)()")
    assert member == Opaque("int outer::Plain::*", 8)
    assert nothing.name in ("std::nullptr_t", "nullptr_t")


@pytest.mark.parametrize(("compiler", "flag"), COMPILERS)
def test_templates_lambdas_local_and_hidden_functions_have_names(compiler: str, flag: str) -> None:
    found = debug_info(program(compiler, flag)).named(
        lambda name: name in ("get", "hidden", "operator()", "method")
    )
    names = {one.qualified_name for one in found}
    assert "outer::(anonymous namespace)::hidden" in names
    assert "outer::inner::Box<long>::get" in names or "outer::inner::Box<long int>::get" in names
    assert "main::Local::method" in names
    assert "main::{unnamed}::operator()" in names


@pytest.mark.parametrize(("compiler", "flag"), COMPILERS)
def test_inlined_methods_are_found_by_their_qualified_name(compiler: str, flag: str) -> None:
    (sum_,) = debug_info(program(compiler, flag)).inlined(lambda name: name == "outer::Plain::sum")
    assert (sum_.name, {one.function for one in sum_.places}) == ("sum", {"outer::values"})
