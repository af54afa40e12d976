package main

// What older Go does not compile.

func init() {
	generic = callGeneric
}

//go:noinline
func largest[T int | float64](id int, values []T) T {
	best := values[0]
	for _, value := range values {
		if value > best {
			best = value
		}
	}
	return best
}

func callGeneric() {
	id := next()
	integers := []int{3, 9, 4}
	record("main.largest[int]", fields{"id": id, "values": integers}, largest(id, integers))
	id = next()
	floats := []float64{0.5, -2}
	record("main.largest[float64]", fields{"id": id, "values": floats}, largest(id, floats))
}
