from __future__ import annotations

from typing import Any

from kubectl_trace.binary import types
from kubectl_trace.binary.dwarf import Parameter
from kubectl_trace.functions.signatures import signature
from tests.unit.functions.test_native_abi import INT, POINTER, function

TEXT = types.Pointer("const char *", 8, types.Character("char", 1, True))


def parameters(*named: tuple[str, types.Type], this: bool = False) -> tuple[Parameter, ...]:
    return tuple(Parameter(name, kind, this and name == "this", None) for name, kind in named)


def of(language: str, *named: tuple[str, types.Type], **fields: Any) -> str:
    return signature(function(language=language, parameters=parameters(*named), **fields))


def test_a_signature_in_c() -> None:
    assert of("C", ("name", TEXT), ("n", INT), returns=INT) == "int (const char *name, int n)"
    assert of("C") == "void ()"
    assert of("C", ("", INT), ("", POINTER), returns=POINTER) == "void * (int, void *)"


def test_a_variadic_signature_says_so() -> None:
    assert of("C", ("form", TEXT), returns=INT, is_variadic=True) == ("int (const char *form, ...)")


def test_the_object_of_a_method_is_no_parameter_of_its_signature() -> None:
    described = function(
        language="C++", parameters=parameters(("this", POINTER), ("n", INT), this=True)
    )
    assert signature(described) == "void (int n)"


def test_a_signature_in_rust() -> None:
    assert of("Rust", ("n", INT), returns=INT) == "(n: int) -> int"
    assert of("Rust") == "()"


def test_a_signature_in_go() -> None:
    assert of("Go", ("a", INT), ("b", TEXT)) == "(a int, b const char *)"
    one, two = parameters(("~r0", INT)), parameters(("n", INT), ("err", POINTER))
    assert of("Go", ("a", INT), results=one) == "(a int) int"
    assert of("Go", results=two) == "() (int, void *)"
