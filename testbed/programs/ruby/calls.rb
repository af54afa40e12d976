# Calls known methods with known arguments, and logs each call as a JSON object a line.
#
#     calls.rb [--wait] [ROUNDS | --fast CALLS]
#
# Without --fast: a round of all calls every half second, for ever or ROUNDS times.
require "json"

class Calls
  def initialize
    @last = 0
  end

  def add(id, b)
    id + b
  end

  def greet(id, name)
    "hello #{name} #{id}"
  end

  def fib(id, n)
    result = n < 2 ? n : fib(id, n - 1) + fib(id, n - 2)
    record("Calls#fib", { id: id, n: n }, result)
    result
  end

  # Raises for odd n.
  def risky(id, n)
    raise ArgumentError, "odd: #{n}" if n.odd?

    id + n
  end

  def record(function, arguments, *results)
    puts JSON.generate({ function: function, arguments: arguments, results: results })
  end

  def next_id
    @last += 1
  end

  def round
    [2, -3, 1 << 70].each do |b|
      id = next_id
      record("Calls#add", { id: id, b: b }, add(id, b))
    end
    ["", "Zoë"].each do |name|
      id = next_id
      record("Calls#greet", { id: id, name: name }, greet(id, name))
    end
    fib(next_id, 6)
    [4, 5].each do |n|
      id = next_id
      begin
        record("Calls#risky", { id: id, n: n }, risky(id, n))
      rescue ArgumentError => e
        puts JSON.generate({ function: "Calls#risky", arguments: { id: id, n: n }, left: e.message })
      end
    end
    $stdout.flush
  end

  def fast(calls)
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond)
    calls.times { |id| add(id, 1) }
    took = Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond) - start
    puts JSON.generate({ calls: calls, nanoseconds: took })
  end

  def main(words)
    if words.first == "--wait"
      words.shift
      puts JSON.generate({ ready: true })
      $stdout.flush
      $stdin.gets
    end
    return fast(words[1].to_i) if words.first == "--fast"

    rounds = words.empty? ? nil : words.first.to_i
    done = 0
    while done != rounds
      sleep 0.5 if done.positive?
      round
      done += 1
    end
  end
end

Calls.new.main(ARGV)
