import java.io.BufferedOutputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

/**
 * Calls known methods with known arguments, and logs each call as a JSON object a line.
 *
 * <pre>Calls [--wait] [ROUNDS | --fast CALLS]</pre>
 *
 * <p>Without --fast: a round of all calls every half second, for ever or ROUNDS times.
 */
public class Calls {
    static final PrintStream OUT =
            new PrintStream(
                    new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), 1 << 16),
                    false,
                    StandardCharsets.UTF_8);
    static int last;

    static int add(int id, int b) {
        return id + b;
    }

    static String greet(int id, String name) {
        return "hello " + name + " " + id;
    }

    static class Account {
        long balance = 100;

        long deposit(int id, long amount) {
            balance += amount;
            return balance + id;
        }
    }

    static int fib(int id, int n) {
        int result = n < 2 ? n : fib(id, n - 1) + fib(id, n - 2);
        record("Calls.fib", "\"id\": " + id + ", \"n\": " + n, "" + result);
        return result;
    }

    /** Throws for odd n. */
    static int risky(int id, int n) {
        if (n % 2 != 0) {
            throw new IllegalArgumentException("odd: " + n);
        }
        return id + n;
    }

    static void record(String function, String arguments, String result) {
        write(function, arguments, "\"results\": [" + result + "]");
    }

    static void write(String function, String arguments, String outcome) {
        OUT.print("{\"function\": \"" + function + "\", \"arguments\": {" + arguments + "}, ");
        OUT.print(outcome + "}\n");
    }

    static void round(Account account) {
        for (int b : new int[] {2, -3, 1 << 20}) {
            int id = ++last;
            record("Calls.add", "\"id\": " + id + ", \"b\": " + b, "" + add(id, b));
        }
        for (String name : new String[] {"", "Zoë"}) {
            int id = ++last;
            String arguments = "\"id\": " + id + ", \"name\": \"" + name + "\"";
            record("Calls.greet", arguments, "\"" + greet(id, name) + "\"");
        }
        int id = ++last;
        String self = "\"this\": {\"balance\": " + account.balance + "}, ";
        String rest = "\"id\": " + id + ", \"amount\": 10";
        record("Calls$Account.deposit", self + rest, "" + account.deposit(id, 10));
        fib(++last, 6);
        for (int n = 4; n < 6; n++) {
            id = ++last;
            String arguments = "\"id\": " + id + ", \"n\": " + n;
            try {
                record("Calls.risky", arguments, "" + risky(id, n));
            } catch (IllegalArgumentException error) {
                write("Calls.risky", arguments, "\"left\": \"" + error.getMessage() + "\"");
            }
        }
        OUT.flush();
    }

    static void fast(int calls) {
        long start = System.nanoTime();
        for (int id = 0; id < calls; id++) {
            if (add(id, 1) != id + 1) {
                throw new AssertionError("add is wrong");
            }
        }
        OUT.print("{\"calls\": " + calls + ", \"nanoseconds\": " + (System.nanoTime() - start) + "}\n");
        OUT.flush();
    }

    public static void main(String[] words) throws Exception {
        int next = 0;
        if (words.length > 0 && words[0].equals("--wait")) {
            next = 1;
            OUT.print("{\"ready\": true}\n");
            OUT.flush();
            while (System.in.read() >= ' ') {}
        }
        if (words.length == next + 2 && words[next].equals("--fast")) {
            fast(Integer.parseInt(words[next + 1]));
            return;
        }
        int rounds = words.length > next ? Integer.parseInt(words[next]) : -1;
        Account account = new Account();
        for (int done = 0; done != rounds; done++) {
            if (done > 0) {
                Thread.sleep(500);
            }
            round(account);
        }
    }
}
