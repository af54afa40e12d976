/* Calls known functions with known arguments, and logs each call as a JSON object a line.
 *
 *     calls [--wait] [ROUNDS | --fast CALLS]
 *
 * Without --fast: a round of all calls every half second, for ever or ROUNDS times.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Neither inlined nor cloned for the constants it is called with. */
#define TRACED __attribute__((noipa))

enum colour { RED, GREEN = 5, BLUE = -1 };

struct item {
    int id;
    const char *name;
    enum colour colour;
    double ratio;
};

struct small { /* 8 bytes */
    int x;
    int y;
};

struct two { /* 16 bytes, in two integer registers */
    long first;
    long second;
};

struct mixed { /* 16 bytes, in an integer and a vector register */
    long count;
    double ratio;
};

struct large { /* 40 bytes, in memory */
    long a;
    long b;
    long c;
    long d;
    double e;
};

struct bits {
    unsigned low : 3;
    unsigned middle : 5;
    int high : 8;
};

/* What is traced. */

TRACED int add(int id, int b) { return id + b; }

TRACED long narrow(int id, signed char a, unsigned char b, short c, unsigned short d, char e) {
    return (long)id + a + b + c + d + e;
}

TRACED unsigned long long wide(int id, unsigned b, long c, unsigned long d, long long e,
                               unsigned long long f) {
    return (unsigned long long)id + b + (unsigned long)c + d + (unsigned long long)e + f;
}

TRACED size_t length(int id, const char *text) {
    (void)id;
    return text ? strlen(text) : 0;
}

TRACED char *copy(int id, char *text) {
    static char kept[400];
    (void)id;
    return text ? strcpy(kept, text) : NULL;
}

TRACED int price(int id, const struct item *item) { return item ? item->id * 10 : -id; }

TRACED struct item *pick(int id, struct item *items, int index) {
    (void)id;
    return index < 0 ? NULL : items + index;
}

TRACED int sum(int id, const int *values, int count) {
    int total = 0;
    (void)id;
    for (int i = 0; i < count; i++)
        total += values[i];
    return total;
}

TRACED int pass_small(int id, struct small value) { return id + value.x - value.y; }
TRACED long pass_two(int id, struct two value, int b) { return id + value.first - value.second + b; }
TRACED double pass_mixed(int id, struct mixed value, int b) {
    return id + (double)value.count * value.ratio + b;
}
TRACED long pass_large(int id, struct large value, int b) { return id + value.a + value.d + b; }
TRACED int pass_bits(int id, struct bits value) { return id + (int)value.middle + value.high; }

TRACED struct small give_small(int id, int x) { return (struct small){x, id}; }
TRACED struct two give_two(int id, long first) { return (struct two){first, -id}; }
TRACED struct mixed give_mixed(int id, double ratio) { return (struct mixed){id, ratio}; }
/* Its result is written to where a hidden first argument points. */
TRACED struct large give_large(int id, long a) { return (struct large){a, 2, 3, id, 0.5}; }

TRACED enum colour paint(int id, enum colour colour) {
    (void)id;
    return colour == RED ? GREEN : colour == GREEN ? BLUE : RED;
}

TRACED bool negate(int id, bool flag) {
    (void)id;
    return !flag;
}

TRACED double blend(int id, double ratio, int parts) { return id + ratio * parts; }

TRACED float halve(int id, float x) {
    (void)id;
    return x / 2;
}

/* Passed in memory, so that b is the second integer in a register. */
TRACED int cut(int id, long double x, int b) { return id + (int)x + b; }

TRACED int nine(int id, int b, int c, int d, int e, int f, int g, int h, int i) {
    return id + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i;
}

TRACED int total(int id, int count, ...) {
    int found = 0;
    va_list list;
    (void)id;
    va_start(list, count);
    while (count-- > 0)
        found += va_arg(list, int);
    va_end(list);
    return found;
}

TRACED int below(int id, int by) { return -by - id; }

static volatile int noted;
TRACED void note(int id, const char *text) { noted = id + (text != NULL); }

static __attribute__((noinline)) int hidden(int id, int b) { return id * 3 + b + noted; }

static inline __attribute__((always_inline)) int inlined(int id, int b) { return id * 5 + b; }

/* Optimised, its last instruction is a jump to add. */
TRACED int forward(int id, int b) { return add(id, b + 1); }

static void log_call(const char *function, const char *arguments, const char *results, ...);

TRACED int fib(int id, int n) {
    int result = n < 2 ? n : fib(id, n - 1) + fib(id, n - 2);
    log_call("fib", "\"id\": %d, \"n\": %d", "%d", id, n, result);
    return result;
}

static jmp_buf out;
/* Leaves by longjmp for odd n. */
TRACED int leap(int id, int n) {
    if (n % 2)
        longjmp(out, 1);
    return id + n;
}

/* What is not traced: log and rounds. */

static int last;

/* The formats, one after the other, are those of what follows. */
static void log_call(const char *function, const char *arguments, const char *results, ...) {
    char format[512];
    va_list list;
    snprintf(format, sizeof format, "{\"function\": \"%s\", \"arguments\": {%s}, %s%s%s}\n", function,
             arguments, results ? "\"results\": [" : "\"left\": \"longjmp\"", results ? results : "",
             results ? "]" : "");
    va_start(list, results);
    vprintf(format, list);
    va_end(list);
}

/* A text in JSON; good until the fourth call after it. */
static const char *quoted(const char *text) {
    static char texts[4][1000];
    static unsigned used;
    char *start = texts[used++ % 4], *end = start;
    if (text == NULL)
        return "null";
    *end++ = '"';
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            *end++ = '\\';
        if ((unsigned char)*text < ' ')
            end += sprintf(end, "\\u%04x", *text);
        else
            *end++ = *text;
    }
    strcpy(end, "\"");
    return start;
}

static const char *name(enum colour colour) {
    return colour == RED ? "\"RED\"" : colour == GREEN ? "\"GREEN\"" : "\"BLUE\"";
}

static const char *item_json(const struct item *item) {
    static char text[200];
    if (item == NULL)
        return "null";
    snprintf(text, sizeof text, "{\"id\": %d, \"name\": %s, \"colour\": %s, \"ratio\": %g}", item->id,
             quoted(item->name), name(item->colour), item->ratio);
    return text;
}

static void texts(void) {
    static char many[301];
    char *all[] = {"", "Ada", "Zo\xc3\xab", "two\nlines \"quoted\" \\ tab\t", many, NULL};
    memset(many, 'x', sizeof many - 1);
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        int id = ++last;
        size_t found = length(id, all[i]);
        log_call("length", "\"id\": %d, \"text\": %s", "%zu", id, quoted(all[i]), found);
        id = ++last;
        char *copied = copy(id, all[i]);
        log_call("copy", "\"id\": %d, \"text\": %s", "%s", id, quoted(all[i]), quoted(copied));
        id = ++last;
        note(id, all[i]);
        log_call("note", "\"id\": %d, \"text\": %s", "", id, quoted(all[i]));
    }
}

static void pointers(void) {
    static struct item items[] = {{7, "lamp", GREEN, 0.25}, {-8, NULL, BLUE, -1e10}};
    static const int values[] = {4, 5, -6};
    for (int index = -1; index < 2; index++) {
        struct item *item = index < 0 ? NULL : items + index;
        int id = ++last;
        int found = price(id, item);
        log_call("price", "\"id\": %d, \"item\": %s", "%d", id, item_json(item), found);
        id = ++last;
        struct item *picked = pick(id, items, index);
        /* items: the first of them. */
        log_call("pick", "\"id\": %d, \"items\": {\"id\": 7}, \"index\": %d", "%s", id, index,
                 item_json(picked));
    }
    int id = ++last;
    /* values: the first of them. */
    log_call("sum", "\"id\": %d, \"values\": 4, \"count\": %d", "%d", id, 3, sum(id, values, 3));
}

static void structs(void) {
    struct small small = {-3, 4};
    struct two two = {1L << 40, -2};
    struct mixed mixed = {6, 2.5};
    struct large large = {1, 2, 3, -4, 5.5};
    struct bits bits = {5, 17, -9};
    int id = ++last;
    log_call("pass_small", "\"id\": %d, \"value\": {\"x\": -3, \"y\": 4}", "%d", id,
             pass_small(id, small));
    id = ++last;
    log_call("pass_two", "\"id\": %d, \"value\": {\"first\": %ld, \"second\": -2}, \"b\": 9", "%ld", id,
             two.first, pass_two(id, two, 9));
    id = ++last;
    log_call("pass_mixed", "\"id\": %d, \"value\": {\"count\": 6, \"ratio\": 2.5}, \"b\": 9", "%.17g",
             id, pass_mixed(id, mixed, 9));
    id = ++last;
    log_call("pass_large",
             "\"id\": %d, \"value\": {\"a\": 1, \"b\": 2, \"c\": 3, \"d\": -4, \"e\": 5.5}, \"b\": 9",
             "%ld", id, pass_large(id, large, 9));
    id = ++last;
    log_call("pass_bits", "\"id\": %d, \"value\": {\"low\": 5, \"middle\": 17, \"high\": -9}", "%d", id,
             pass_bits(id, bits));
    id = ++last;
    small = give_small(id, -6);
    log_call("give_small", "\"id\": %d, \"x\": -6", "{\"x\": %d, \"y\": %d}", id, small.x, small.y);
    id = ++last;
    two = give_two(id, 1L << 41);
    log_call("give_two", "\"id\": %d, \"first\": %ld", "{\"first\": %ld, \"second\": %ld}", id, 1L << 41,
             two.first, two.second);
    id = ++last;
    mixed = give_mixed(id, 0.125);
    log_call("give_mixed", "\"id\": %d, \"ratio\": 0.125", "{\"count\": %ld, \"ratio\": %g}", id,
             mixed.count, mixed.ratio);
    id = ++last;
    large = give_large(id, -70);
    log_call("give_large", "\"id\": %d, \"a\": -70",
             "{\"a\": %ld, \"b\": %ld, \"c\": %ld, \"d\": %ld, \"e\": %g}", id, large.a, large.b, large.c,
             large.d, large.e);
}

static void numbers(void) {
    static const int others[] = {2, -3, 1 << 20};
    for (int i = 0; i < 3; i++) {
        int id = ++last, b = others[i];
        log_call("add", "\"id\": %d, \"b\": %d", "%d", id, b, add(id, b));
    }
    int id = ++last;
    log_call("narrow", "\"id\": %d, \"a\": -128, \"b\": 255, \"c\": -32768, \"d\": 65535, \"e\": 97",
             "%ld", id, narrow(id, -128, 255, -32768, 65535, 'a'));
    id = ++last;
    long least = -9223372036854775807L - 1;
    unsigned long long most = 18446744073709551615ULL;
    log_call("wide", "\"id\": %d, \"b\": %u, \"c\": %ld, \"d\": %llu, \"e\": %ld, \"f\": %llu", "%llu",
             id, 4294967295U, least, most, least, most, wide(id, 4294967295U, least, most, least, most));
    static const enum colour colours[] = {RED, GREEN, BLUE};
    for (int i = 0; i < 3; i++) {
        id = ++last;
        log_call("paint", "\"id\": %d, \"colour\": %s", "%s", id, name(colours[i]),
                 name(paint(id, colours[i])));
        id = ++last;
        bool negated = negate(id, i == 1);
        log_call("negate", "\"id\": %d, \"flag\": %s", "%s", id, i == 1 ? "true" : "false",
                 negated ? "true" : "false");
    }
    id = ++last;
    log_call("blend", "\"id\": %d, \"ratio\": 0.75, \"parts\": 6", "%.17g", id, blend(id, 0.75, 6));
    id = ++last;
    log_call("halve", "\"id\": %d, \"x\": -2.5", "%.9g", id, (double)halve(id, -2.5F));
    id = ++last;
    log_call("cut", "\"id\": %d, \"x\": 3.5, \"b\": 8", "%d", id, cut(id, 3.5L, 8));
    id = ++last;
    log_call("nine",
             "\"id\": %d, \"b\": 2, \"c\": 3, \"d\": 4, \"e\": 5, \"f\": 6, \"g\": 7, \"h\": 8, \"i\": -9",
             "%d", id, nine(id, 2, 3, 4, 5, 6, 7, 8, -9));
    id = ++last;
    /* The arguments that have names. */
    log_call("total", "\"id\": %d, \"count\": 3", "%d", id, total(id, 3, 10, 20, -5));
    id = ++last;
    log_call("below", "\"id\": %d, \"by\": 100", "%d", id, below(id, 100));
}

static void controls(void) {
    int id = ++last;
    log_call("hidden", "\"id\": %d, \"b\": %d", "%d", id, noted, hidden(id, noted));
    id = ++last;
    log_call("inlined", "\"id\": %d, \"b\": %d", "%d", id, noted, inlined(id, noted));
    id = ++last;
    int forwarded = forward(id, 40);
    log_call("forward", "\"id\": %d, \"b\": 40", "%d", id, forwarded);
    log_call("add", "\"id\": %d, \"b\": 41", "%d", id, forwarded);
    fib(++last, 6);
    id = ++last;
    log_call("leap", "\"id\": %d, \"n\": 4", "%d", id, leap(id, 4));
    ++last;
    if (setjmp(out) == 0)
        leap(last, 5);
    log_call("leap", "\"id\": %d, \"n\": 5", NULL, last);
}

static void fast(int calls) {
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int id = 0; id < calls; id++)
        if (add(id, 1) != id + 1)
            abort();
    clock_gettime(CLOCK_MONOTONIC, &to);
    printf("{\"calls\": %d, \"nanoseconds\": %ld}\n", calls,
           (to.tv_sec - from.tv_sec) * 1000000000L + to.tv_nsec - from.tv_nsec);
}

int main(int count, char **words) {
    words++, count--;
    if (count > 0 && strcmp(*words, "--wait") == 0) {
        printf("{\"ready\": true}\n");
        fflush(stdout);
        while (getchar() >= ' ')
            ;
        words++, count--;
    }
    if (count == 2 && strcmp(*words, "--fast") == 0) {
        fast(atoi(words[1]));
        return 0;
    }
    int rounds = count > 0 ? atoi(*words) : -1;
    for (int done = 0; done != rounds; done++) {
        if (done > 0)
            nanosleep(&(struct timespec){0, 500000000}, NULL);
        numbers();
        texts();
        pointers();
        structs();
        controls();
        fflush(stdout);
    }
    return 0;
}
