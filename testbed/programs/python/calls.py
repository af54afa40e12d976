"""Calls known functions with known arguments, and logs each call as a JSON object a line.

    calls.py [--wait] [ROUNDS | --fast CALLS]

Without --fast: a round of all calls every half second, for ever or ROUNDS times.
"""

# ruff: noqa: A001, A002 - `id` as in the programs of the other languages.
from __future__ import annotations

import itertools
import json
import sys
import time

_ids = itertools.count(1)


def add(id: int, b: int) -> int:
    """A plain function."""
    return id + b


def greet(id: int, name: str) -> str:
    """A function of texts."""
    return f"hello {name} {id}"


class Account:
    """A class with a method."""

    def __init__(self, balance: int) -> None:
        self.balance = balance

    def deposit(self, id: int, amount: int) -> int:
        """A method."""
        self.balance += amount
        return self.balance + id


def fib(id: int, n: int) -> int:
    """A function that calls itself."""
    result = n if n < 2 else fib(id, n - 1) + fib(id, n - 2)
    record("fib", {"id": id, "n": n}, result)
    return result


def risky(id: int, n: int) -> int:
    """A function that raises an exception for odd n."""
    if n % 2:
        raise ValueError(f"odd: {n}")
    return id + n


def record(function: str, arguments: dict[str, object], *results: object) -> None:
    """Log a call."""
    print(json.dumps({"function": function, "arguments": arguments, "results": results}))


def one_round(account: Account) -> None:
    """Call each, and log that."""
    for b in (2, -3, 1 << 70):
        id = next(_ids)
        record("add", {"id": id, "b": b}, add(id, b))
    for name in ("", "Zoë"):
        id = next(_ids)
        record("greet", {"id": id, "name": name}, greet(id, name))
    id = next(_ids)
    before = account.balance
    arguments = {"self": {"balance": before}, "id": id, "amount": 10}
    record("Account.deposit", arguments, account.deposit(id, 10))
    fib(next(_ids), 6)
    for n in (4, 5):
        id = next(_ids)
        try:
            record("risky", {"id": id, "n": n}, risky(id, n))
        except ValueError as error:
            left = {"function": "risky", "arguments": {"id": id, "n": n}, "left": str(error)}
            print(json.dumps(left))
    sys.stdout.flush()


def fast(calls: int) -> None:
    """Call one as fast as it goes."""
    start = time.perf_counter_ns()
    for id in range(calls):
        add(id, 1)
    print(json.dumps({"calls": calls, "nanoseconds": time.perf_counter_ns() - start}))


def main(words: list[str]) -> None:
    """Do what the command line says."""
    if words[:1] == ["--wait"]:
        words = words[1:]
        print(json.dumps({"ready": True}), flush=True)
        sys.stdin.readline()
    if words[:1] == ["--fast"]:
        fast(int(words[1]))
        return
    account = Account(100)
    for done in range(int(words[0])) if words else itertools.count():
        if done:
            time.sleep(0.5)
        one_round(account)


main(sys.argv[1:])
