// Built by the tests. It says where its types are, and how they are called.
package main

import (
	"errors"
	"fmt"
	"reflect"
	"time"
	"unsafe"
)

type Point struct{ X, Y int }

type words [2]uintptr

var kept []int

func inlined(a int) int { kept = append(kept, a); return len(kept) }

//go:noinline
func Uses(a int) int { return inlined(a) }

//go:noinline
func (p *Point) Move(by int) int { p.X += by; return p.X }

//go:noinline
func Recovers(a int) (result int) {
	defer func() { recover() }()
	return kept[a]
}

//go:noinline
func Huge(a int) int {
	var frame [8000]byte
	for i := range frame {
		frame[i] = byte(a + i)
	}
	return Uses(int(frame[a]))
}

//go:noinline
func Switch(a int) string {
	switch a {
	case 0:
		return "zero"
	case 1:
		return "one"
	case 2:
		return "two"
	case 3:
		return "three"
	case 4:
		return "four"
	case 5:
		return "five"
	case 6:
		return "six"
	case 7:
		return "seven"
	case 8:
		return "eight"
	}
	return "many"
}

func main() {
	values := []interface{}{
		1, "s", Point{}, &Point{}, errors.New("x"), []int{}, map[string]*Point{}, time.Second,
		struct{ A, B string }{}, [3]byte{}, make(chan int), 1.5, true, func() {}, &[]Point{},
		unsafe.Pointer(nil), Huge(1), Switch(3), (&Point{}).Move(2), Recovers(9),
	}
	for _, value := range values {
		fmt.Printf("%d %s %T\n", (*words)(unsafe.Pointer(&value))[0], reflect.TypeOf(value).Kind(), value)
	}
}
