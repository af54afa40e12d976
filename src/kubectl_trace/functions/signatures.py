"""A function's signature as its language writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubectl_trace.binary.dwarf import Parameter, Subprogram


def signature(function: Subprogram) -> str:
    """Parameters and results with their types, without the function's name."""
    if function.language == "Go":
        results = ", ".join(each.type.name for each in function.results)
        if len(function.results) > 1:
            results = f"({results})"
        return f"({_after_names(function.parameters)}) {results}".rstrip()
    if function.language == "Rust":
        result = f" -> {function.returns.name}" if function.returns else ""
        parameters = ", ".join(f"{each.name}: {each.type.name}" for each in function.parameters)
        return f"({parameters}){result}"
    parameters = ", ".join(
        _declared(each.type.name, each.name)
        for each in function.parameters
        if not (each.is_artificial and each.name == "this")
    )
    more = ", ..." if function.is_variadic else ""
    return f"{function.returns.name if function.returns else 'void'} ({parameters}{more})"


def _after_names(parameters: tuple[Parameter, ...]) -> str:
    return ", ".join(f"{each.name} {each.type.name}" for each in parameters)


def _declared(kind: str, name: str) -> str:
    if not name:
        return kind
    return f"{kind}{name}" if kind.endswith(("*", "&")) else f"{kind} {name}"
