<?php
/*
 * Calls known functions with known arguments, and logs each call as a JSON object a line.
 *
 *     calls.php [--wait] [ROUNDS | --fast CALLS]
 *
 * Without --fast: a round of all calls every half second, for ever or ROUNDS times.
 */

function add(int $id, int $b): int
{
    return $id + $b;
}

function greet(int $id, string $name): string
{
    return "hello $name $id";
}

class Account
{
    public function __construct(public int $balance)
    {
    }

    public function deposit(int $id, int $amount): int
    {
        $this->balance += $amount;
        return $this->balance + $id;
    }

    public static function limit(int $id, int $b): int
    {
        return min($id, $b);
    }
}

function fib(int $id, int $n): int
{
    $result = $n < 2 ? $n : fib($id, $n - 1) + fib($id, $n - 2);
    record('fib', ['id' => $id, 'n' => $n], $result);
    return $result;
}

// Throws for odd n.
function risky(int $id, int $n): int
{
    if ($n % 2) {
        throw new ValueError("odd: $n");
    }
    return $id + $n;
}

function write(array $line): void
{
    fwrite(STDOUT, json_encode($line, JSON_UNESCAPED_SLASHES) . "\n");
}

function record(string $function, array $arguments, mixed ...$results): void
{
    write(['function' => $function, 'arguments' => $arguments, 'results' => $results]);
}

function next_id(): int
{
    static $last = 0;
    return ++$last;
}

function one_round(Account $account): void
{
    foreach ([2, -3, 1 << 40] as $b) {
        $id = next_id();
        record('add', ['id' => $id, 'b' => $b], add($id, $b));
    }
    foreach (['', 'Zoë'] as $name) {
        $id = next_id();
        record('greet', ['id' => $id, 'name' => $name], greet($id, $name));
    }
    $id = next_id();
    $before = ['balance' => $account->balance];
    $balance = $account->deposit($id, 10);
    record('Account::deposit', ['this' => $before, 'id' => $id, 'amount' => 10], $balance);
    $id = next_id();
    record('Account::limit', ['id' => $id, 'b' => 3], Account::limit($id, 3));
    fib(next_id(), 6);
    foreach ([4, 5] as $n) {
        $id = next_id();
        $arguments = ['id' => $id, 'n' => $n];
        try {
            record('risky', $arguments, risky($id, $n));
        } catch (ValueError $error) {
            write(['function' => 'risky', 'arguments' => $arguments, 'left' => $error->getMessage()]);
        }
    }
}

function fast(int $calls): void
{
    $start = hrtime(true);
    for ($id = 0; $id < $calls; $id++) {
        add($id, 1);
    }
    write(['calls' => $calls, 'nanoseconds' => hrtime(true) - $start]);
}

function main(array $words): void
{
    if (($words[0] ?? '') === '--wait') {
        array_shift($words);
        write(['ready' => true]);
        fgets(STDIN);
    }
    if (($words[0] ?? '') === '--fast') {
        fast((int) $words[1]);
        return;
    }
    $account = new Account(100);
    for ($done = 0; !$words || $done < (int) $words[0]; $done++) {
        if ($done) {
            usleep(500_000);
        }
        one_round($account);
    }
}

main(array_slice($argv, 1));
