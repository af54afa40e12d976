// Calls known functions with known arguments, and logs each call as a JSON object a line.
//
//	calls [--wait] [ROUNDS | --fast CALLS | --stress SECONDS]
//
// Without --fast and --stress: a round of all calls every half second, for ever or ROUNDS times.
// As old a Go as can be had compiles it (../../programs.py); what that cannot is in generic.go.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What is traced.

type Owner struct {
	Name string
	Age  int32
}

type Account struct {
	Name    string
	Balance int64
	Owner   *Owner
}

type Point struct {
	X      int
	Label  string
	Weight float64
}

type Shape interface {
	Area(id int) float64
}

type Square struct {
	Side float64
}

//go:noinline
func add(id, b int) int {
	return id + b
}

//go:noinline
func greet(id int, name string) string {
	return "hello " + name
}

//go:noinline
func sum(id int, values []int) (int, error) {
	if len(values) == 0 {
		return 0, errors.New("nothing to sum")
	}
	total := 0
	for _, value := range values {
		total += value
	}
	return total, nil
}

//go:noinline
func pair(id int, flag bool, small int8, big uint64) (uint64, bool) {
	return big - uint64(id), !flag
}

//go:noinline
func (a *Account) Deposit(id int, amount int64) int64 {
	a.Balance += amount
	return a.Balance
}

//go:noinline
func (a Account) Summary(id int) string {
	return a.Name + ":" + strconv.FormatInt(a.Balance, 10)
}

//go:noinline
func describe(id int, value interface{}) string {
	return fmt.Sprintf("%T", value)
}

//go:noinline
func scale(id int, x float64) float64 {
	return x * 1.5
}

//go:noinline
func narrow(id int, x float32) float32 {
	return x / 2
}

//go:noinline
func measure(id int, p Point) float64 {
	return float64(p.X)*p.Weight + float64(len(p.Label))
}

//go:noinline
func move(id int, p Point, by int) Point {
	p.X += by
	return p
}

//go:noinline
func wrap(id int, inner error) error {
	if inner == nil {
		return nil
	}
	return fmt.Errorf("call %d: %w", id, inner)
}

// More integers than there are registers for arguments.
//
//go:noinline
func many(id, b, c, d, e, f, g, h, i, j, k, l int) int {
	return id + 2*b + 3*c + 4*d + 5*e + 6*f + 7*g + 8*h + 9*i + 10*j + 11*k + 12*l
}

//go:noinline
func (s Square) Area(id int) float64 {
	return s.Side * s.Side
}

//go:noinline
func area(id int, shape Shape) float64 {
	return shape.Area(id)
}

//go:noinline
func lookup(id int, words map[string]int, word string) (int, bool) {
	count, found := words[word]
	return count, found
}

//go:noinline
func find(id int, accounts []*Account, name string) *Account {
	for _, account := range accounts {
		if account.Name == name {
			return account
		}
	}
	return nil
}

//go:noinline
func makeAdder(id, step int) func(int) int {
	return func(x int) int { return x + step }
}

// The compiler inlines it into round.
func inlined(x int) int {
	return x*x + 1
}

//go:noinline
func fib(id, n int) int {
	result := n
	if n > 1 {
		result = fib(id, n-1) + fib(id, n-2)
	}
	if logging {
		record("main.fib", fields{"id": id, "n": n}, result)
	}
	return result
}

// Panics for odd n; who calls it recovers.
//
//go:noinline
func risky(id, n int) int {
	if n%2 != 0 {
		panic(fmt.Sprintf("odd: %d", n))
	}
	return n / 2
}

// Panics and recovers itself, so that it returns after all.
//
//go:noinline
func careful(id, n int) (result int) {
	defer func() {
		if recover() != nil {
			result = -n
		}
	}()
	if n%2 != 0 {
		panic("odd")
	}
	return n / 2
}

// Each call has a frame of 256 bytes and more, so that a new goroutine's stack must grow.
//
//go:noinline
func deep(id, n int) int {
	var frame [256]byte
	frame[n%256] = byte(n)
	if n == 0 {
		return 0
	}
	result := deep(id, n-1)
	return result + n + int(frame[n%256]) - int(byte(n))
}

// Gives way in the middle: it often ends on another thread than the one it began on.
//
//go:noinline
func hop(id int) int {
	runtime.Gosched()
	time.Sleep(time.Millisecond)
	runtime.Gosched()
	return 2*id + 1
}

// What is not traced: numbers, log, rounds.

type fields map[string]interface{}

type line struct {
	Function  string        `json:"function"`
	Arguments fields        `json:"arguments"`
	Results   []interface{} `json:"results,omitempty"`
	Left      string        `json:"left,omitempty"`
}

// An interface value: the name of its type, and what it holds.
type boxed struct {
	Type  string      `json:"type"`
	Value interface{} `json:"value"`
}

var (
	last    int64
	logging = true
	generic = func() {}
	lock    sync.Mutex
	output  = bufio.NewWriterSize(os.Stdout, 1<<16)
)

func next() int {
	return int(atomic.AddInt64(&last, 1))
}

func record(function string, arguments fields, results ...interface{}) {
	write(line{Function: function, Arguments: arguments, Results: results})
}

func recordPanic(function string, arguments fields, problem interface{}) {
	write(line{Function: function, Arguments: arguments, Left: fmt.Sprint(problem)})
}

func write(what interface{}) {
	text, err := json.Marshal(what)
	if err != nil {
		panic(err)
	}
	lock.Lock()
	defer lock.Unlock()
	output.Write(text)
	output.WriteByte('\n')
}

func box(value interface{}) interface{} {
	if value == nil {
		return nil
	}
	if err, ok := value.(error); ok {
		return boxed{fmt.Sprintf("%T", value), err.Error()}
	}
	return boxed{fmt.Sprintf("%T", value), value}
}

func attempt(id, n int) (result int, problem interface{}) {
	defer func() { problem = recover() }()
	return risky(id, n), nil
}

var (
	owner    = &Owner{"Ada", 36}
	accounts = []*Account{{"savings", 100, owner}, {"empty", -5, nil}}
	names    = []string{"", "Ada", "Zoë", "two\nlines \"quoted\" \\ tab\t", strings.Repeat("long ", 60)}
	lists    = [][]int{nil, {}, {7}, {1, 2, 3}, {-1, 1 << 40, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}
	words    = map[string]int{"one": 1, "two": 2}
)

func round() {
	for _, b := range []int{2, -3, 1 << 40} {
		id := next()
		record("main.add", fields{"id": id, "b": b}, add(id, b))
	}
	for _, name := range names {
		id := next()
		record("main.greet", fields{"id": id, "name": name}, greet(id, name))
	}
	for _, values := range lists {
		id := next()
		total, err := sum(id, values)
		record("main.sum", fields{"id": id, "values": values}, total, box(err))
	}
	for _, small := range []int8{5, -128} {
		id := next()
		big := uint64(1)<<63 + uint64(id)
		a, b := pair(id, small > 0, small, big)
		record("main.pair", fields{"id": id, "flag": small > 0, "small": small, "big": big}, a, b)
	}
	for _, account := range accounts {
		id := next()
		before := *account
		balance := account.Deposit(id, 10)
		record("main.(*Account).Deposit", fields{"a": before, "id": id, "amount": 10}, balance)
		id = next()
		text := account.Summary(id)
		record("main.Account.Summary", fields{"a": *account, "id": id}, text)
	}
	for _, value := range []interface{}{
		7, "seven", *accounts[0], accounts[0], errors.New("seventh"), 7.5, []int{7}, Square{7}, nil,
	} {
		id := next()
		record("main.describe", fields{"id": id, "value": box(value)}, describe(id, value))
	}
	for _, x := range []float64{0, 2.25, -1e300} {
		id := next()
		record("main.scale", fields{"id": id, "x": x}, scale(id, x))
	}
	id := next()
	record("main.narrow", fields{"id": id, "x": 0.75}, narrow(id, 0.75))
	point := Point{3, "corner", 0.5}
	id = next()
	record("main.measure", fields{"id": id, "p": point}, measure(id, point))
	id = next()
	record("main.move", fields{"id": id, "p": point, "by": 4}, move(id, point, 4))
	for _, inner := range []error{errors.New("no disk"), nil} {
		id := next()
		record("main.wrap", fields{"id": id, "inner": box(inner)}, box(wrap(id, inner)))
	}
	id = next()
	record("main.many", fields{"id": id, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7, "h": 8,
		"i": 9, "j": 10, "k": 11, "l": -12}, many(id, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, -12))
	id = next()
	var shape Shape = Square{3}
	result := area(id, shape)
	record("main.Square.Area", fields{"s": shape, "id": id}, result)
	record("main.area", fields{"id": id, "shape": box(shape)}, result)
	for _, word := range []string{"two", "three"} {
		id := next()
		count, found := lookup(id, words, word)
		record("main.lookup", fields{"id": id, "words": words, "word": word}, count, found)
	}
	for _, name := range []string{"savings", "absent"} {
		id := next()
		found := find(id, accounts, name)
		record("main.find", fields{"id": id, "accounts": accounts, "name": name}, found)
	}
	generic()
	id = next()
	adder := makeAdder(id, 5)
	record("main.makeAdder", fields{"id": id, "step": 5}, "func")
	id = next()
	record("main.makeAdder.func1", fields{"x": id}, adder(id))
	id = next()
	record("main.inlined", fields{"x": id}, inlined(id))
	fib(next(), 6)
	for _, n := range []int{4, 5} {
		id := next()
		result, problem := attempt(id, n)
		if problem == nil {
			record("main.risky", fields{"id": id, "n": n}, result)
		} else {
			recordPanic("main.risky", fields{"id": id, "n": n}, problem)
		}
		id = next()
		record("main.careful", fields{"id": id, "n": n}, careful(id, n))
	}
	var group sync.WaitGroup
	group.Add(1)
	go func() {
		defer group.Done()
		id := next()
		record("main.deep", fields{"id": id, "n": 2000}, deep(id, 2000))
	}()
	group.Wait()
	for range [20]int{} {
		group.Add(1)
		go func() {
			defer group.Done()
			id := next()
			record("main.hop", fields{"id": id}, hop(id))
		}()
	}
	group.Wait()
	lock.Lock()
	defer lock.Unlock()
	output.Flush()
}

// Calls add as fast as it goes.
func fast(calls int) {
	start := time.Now()
	for id := 0; id < calls; id++ {
		if add(id, 1) != id+1 {
			panic("add is wrong")
		}
	}
	took := time.Since(start)
	write(fields{"calls": calls, "nanoseconds": took.Nanoseconds()})
}

// Eight goroutines call the awkward functions as fast as they go, and check what they get.
func stress(length time.Duration) bool {
	var calls, wrong int64
	check := func(result, expected int) {
		atomic.AddInt64(&calls, 1)
		if result != expected {
			atomic.AddInt64(&wrong, 1)
		}
	}
	logging = false
	end := time.Now().Add(length)
	var group sync.WaitGroup
	for worker := 0; worker < 8; worker++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for time.Now().Before(end) {
				id := next()
				for n := 0; n < 100; n++ {
					check(add(id, n), id+n)
				}
				check(fib(id, 6), 8)
				check(hop(id), 2*id+1)
				for n := 4; n < 6; n++ {
					result, problem := attempt(id, n)
					if problem == nil {
						check(result, n/2)
					} else {
						check(n, 5)
					}
				}
				check(careful(id, 4), 2)
				check(careful(id, 5), -5)
				// A new goroutine's stack is small.
				done := make(chan int)
				go func() { done <- deep(id, 2000) }()
				check(<-done, 2000*2001/2)
			}
		}()
	}
	group.Wait()
	write(fields{"calls": calls, "wrong": wrong})
	return wrong == 0
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	if err != nil {
		fmt.Fprintln(os.Stderr, "usage: calls [--wait] [ROUNDS | --fast CALLS | --stress SECONDS]")
		os.Exit(2)
	}
	return value
}

func main() {
	defer output.Flush()
	words := os.Args[1:]
	if len(words) > 0 && words[0] == "--wait" {
		words = words[1:]
		write(fields{"ready": true})
		output.Flush()
		bufio.NewReader(os.Stdin).ReadString('\n')
	}
	if len(words) == 2 && words[0] == "--fast" {
		fast(number(words[1]))
		return
	}
	if len(words) == 2 && words[0] == "--stress" {
		if !stress(time.Duration(number(words[1])) * time.Second) {
			output.Flush()
			os.Exit(1)
		}
		return
	}
	rounds := -1
	if len(words) > 0 {
		rounds = number(words[0])
	}
	for done := 0; done != rounds; done++ {
		if done > 0 {
			time.Sleep(500 * time.Millisecond)
		}
		round()
	}
}
