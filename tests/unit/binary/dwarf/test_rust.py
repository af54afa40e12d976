from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kubectl_trace.binary.types import Character, Enumeration, Integer, Pointer, Structure
from tests.unit.binary.dwarf.programs import compiled, debug_info, parameter

if TYPE_CHECKING:
    from kubectl_trace.binary.dwarf import DebugInfo

PROGRAM = """
#![no_main]
pub enum Shape { Circle(f64), Rectangle { width: u32, height: u32 }, Empty }
#[derive(Clone, Copy)]
pub enum Color { Red = 1, Green = 7 }
pub struct Point { x: i32, y: i32 }
impl Point {
    #[inline(never)]
    pub fn sum(&self, more: i32) -> i32 { self.x + self.y + more }
}
mod deep {
    #[inline(never)]
    pub fn generic<T: Copy>(value: T, times: usize) -> usize {
        std::mem::size_of_val(&value) * std::hint::black_box(times)
    }
}
#[inline(never)]
#[no_mangle]
pub extern "C" fn work(text: &str, bytes: &[u8], maybe: Option<u32>, boxed: Option<Box<u64>>,
                       shape: &Shape, color: Color, pair: (u8, u16), letter: char) -> Option<u32> {
    let area = match shape {
        Shape::Circle(radius) => *radius as u32,
        Shape::Rectangle { width, height } => width * height,
        Shape::Empty => 0,
    };
    std::hint::black_box(text.len() as u32 + bytes.len() as u32 + area + color as u32
        + pair.1 as u32 + letter as u32 + boxed.map_or(0, |held| *held as u32));
    maybe
}
#[no_mangle]
pub extern "C" fn main(count: i32, _: *const *const u8) -> i32 {
    let point = Point { x: count, y: 2 };
    let shape = match count { 1 => Shape::Circle(1.0), 2 => Shape::Empty,
                              _ => Shape::Rectangle { width: 2, height: 3 } };
    let color = if count > 3 { Color::Red } else { Color::Green };
    work("text", b"xy", Some(1), None, &shape, color, (1, 2), 'x');
    point.sum(count) + deep::generic(count as u8, 3) as i32
}
"""


@pytest.fixture(scope="module", params=[(), ("-O",)], ids=["debug", "release"])
def info(request: pytest.FixtureRequest) -> DebugInfo:
    return debug_info(compiled("rustc", PROGRAM, "rs", ("-g", "-C", "panic=abort", *request.param)))


def test_methods_and_generics_have_their_paths(info: DebugInfo) -> None:
    found = list(info.named(lambda name: name in ("sum", "work") or name.startswith("generic")))
    names = {one.qualified_name for one in found}
    assert names == {
        "program::Point::sum",
        "program::work",
        "program::deep::generic<u8>",
    }
    assert {one.language for one in found} == {"Rust"}
    (method,) = (one for one in found if one.name == "sum")
    assert [one.name for one in method.parameters] == ["self", "more"]
    assert method.parameters[0].type.name == "&program::Point"
    assert method.returns == Integer("i32", 4, True)
    assert "fn sum(" in PROGRAM.splitlines()[method.line - 1]


def test_rust_s_own_types_are_structures_with_their_names(info: DebugInfo) -> None:
    (work,) = info.named(lambda name: name == "work")
    text = parameter(work, "text").type
    assert isinstance(text, Structure)
    assert (text.name, text.size, text.kind) == ("&str", 16, "struct")
    assert [one.name for one in text.members] == ["data_ptr", "length"]
    assert parameter(work, "bytes").type.name == "&[u8]"
    pair = parameter(work, "pair").type
    assert isinstance(pair, Structure)
    assert pair.name == "(u8, u16)"
    assert parameter(work, "letter").type == Character("char", 4, False)
    color = parameter(work, "color").type
    assert color == Enumeration("program::Color", 1, False, (("Red", 1), ("Green", 7)))


def test_enums_with_data_have_a_tag_and_variants(info: DebugInfo) -> None:
    (work,) = info.named(lambda name: name == "work")
    pointer = parameter(work, "shape").type
    assert isinstance(pointer, Pointer)
    shape = pointer.to
    assert isinstance(shape, Structure)
    assert (shape.kind, shape.name) == ("variants", "program::Shape")
    tag, *variants = shape.members
    assert (tag.name, isinstance(tag.type, Integer)) == ("", True)
    assert [(one.name, one.tag) for one in variants] == [
        ("Circle", 0),
        ("Rectangle", 1),
        ("Empty", 2),
    ]
    rectangle = variants[1].type
    assert isinstance(rectangle, Structure)
    assert {one.name for one in rectangle.members} == {"width", "height"}


def test_options_have_a_tag_or_use_a_value_that_is_none(info: DebugInfo) -> None:
    (work,) = info.named(lambda name: name == "work")
    maybe, boxed = parameter(work, "maybe").type, parameter(work, "boxed").type
    assert isinstance(maybe, Structure)
    assert isinstance(boxed, Structure)
    assert (maybe.name, maybe.size) == ("core::option::Option<u32>", 8)
    assert [(one.name, one.tag) for one in maybe.members[1:]] == [("None", 0), ("Some", 1)]
    # A null pointer is None, all other values are Some.
    assert [(one.name, one.tag) for one in boxed.members[1:]] == [("None", 0), ("Some", None)]
    assert boxed.members[0].offset == boxed.members[2].offset == 0
    assert work.returns == maybe
