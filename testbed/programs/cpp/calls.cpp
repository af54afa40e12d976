// Calls known functions with known arguments, and logs each call as a JSON object a line.
//
//     calls [--wait] [ROUNDS | --fast CALLS]
//
// Without --fast: a round of all calls every half second, for ever or ROUNDS times.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

// Neither inlined nor cloned for the constants it is called with.
#define TRACED __attribute__((noipa))

// What is traced.

namespace shop {

enum class Colour : unsigned char { Red, Green = 5, Blue = 200 };

class Cart {
  public:
    explicit Cart(std::string owner) : owner_(std::move(owner)) {}
    virtual ~Cart() = default;

    int add(int id, const std::string &name, double price);
    static int limit(int id, int b);
    int count(int id) const;
    std::string label(int id) const;
    virtual int cost(int id, int n);

    std::string owner_;
    int lines_ = 0;
    double total_ = 0;
};

TRACED int Cart::add(int id, const std::string &name, double price) {
    lines_++;
    total_ += price;
    return id + static_cast<int>(name.size());
}

TRACED int Cart::limit(int id, int b) { return id < b ? id : b; }

TRACED int Cart::count(int id) const { return id + lines_; }

// Its result is written to where a hidden argument, before `this`, points.
TRACED std::string Cart::label(int id) const { return owner_ + " " + std::to_string(id); }

TRACED int Cart::cost(int id, int n) { return id + n; }

class Discounted : public Cart {
  public:
    using Cart::Cart;
    int cost(int id, int n) override;
};

TRACED int Discounted::cost(int id, int n) { return id + n / 2; }

TRACED Colour paint(int id, Colour colour) {
    (void)id;
    return colour == Colour::Red ? Colour::Green : colour == Colour::Green ? Colour::Blue : Colour::Red;
}

} // namespace shop

struct Money {
    int id;
    int cents;
};

TRACED Money operator+(const Money &a, const Money &b) { return {a.id, a.cents + b.cents}; }

TRACED int add(int id, int b) { return id + b; }

TRACED int twice(int id, int value) { return id + 2 * value; }
TRACED double twice(int id, double value) { return id + 2 * value; }
TRACED std::string twice(int id, const std::string &value) {
    (void)id;
    return value + value;
}

template <int N> TRACED int times(int id, int b) { return id + N * b; }
template <typename T> TRACED T biggest(int id, T a, T b) {
    (void)id;
    return a < b ? b : a;
}

// By value: a hidden pointer to the caller's copy.
TRACED int take(int id, std::string text) { return id + static_cast<int>(text.size()); }
TRACED int view(int id, std::string_view text) { return id + static_cast<int>(text.size()); }
TRACED int total(int id, const std::vector<int> &values) {
    for (int value : values)
        id += value;
    return id;
}
TRACED void bump(int id, int &value) { value += id; }
TRACED bool owns(int id, std::unique_ptr<int> owned) { return owned && *owned == id; }

namespace {
__attribute__((noinline)) int secret(int id, int b) { return id * 3 + b; }
} // namespace

// Throws for odd n; who calls it catches.
TRACED int risky(int id, int n) {
    if (n % 2)
        throw std::runtime_error("odd: " + std::to_string(n));
    return id + n;
}

// What risky throws goes through it.
TRACED int through(int id, int n) { return risky(id, n) + 1; }

// What is not traced: log and rounds.

static int last;

static std::string json(int value) { return std::to_string(value); }
static std::string json(bool value) { return value ? "true" : "false"; }
static std::string json(double value) {
    char text[40];
    std::snprintf(text, sizeof text, "%.17g", value);
    return text;
}
static std::string json(std::string_view value) {
    std::string text = "\"";
    for (char letter : value) {
        if (letter == '"' || letter == '\\')
            text += '\\';
        text += letter;
    }
    return text + '"';
}
static std::string json(const std::string &value) { return json(std::string_view(value)); }
static std::string json(const char *value) { return json(std::string_view(value)); }
static std::string json(shop::Colour value) {
    return json(value == shop::Colour::Red     ? "Red"
                : value == shop::Colour::Green ? "Green"
                                               : "Blue");
}
static std::string json(const Money &value) {
    return "{\"id\": " + json(value.id) + ", \"cents\": " + json(value.cents) + "}";
}
static std::string json(const std::vector<int> &values) {
    std::string text;
    for (int value : values)
        text += (text.empty() ? "" : ", ") + json(value);
    return "[" + text + "]";
}
static std::string json(const shop::Cart &cart) {
    return "{\"owner_\": " + json(cart.owner_) + ", \"lines_\": " + json(cart.lines_) +
           ", \"total_\": " + json(cart.total_) + "}";
}

struct Argument {
    template <typename T> Argument(const char *name, const T &value) : name(name), text(json(value)) {}
    const char *name;
    std::string text;
};

static void write(const char *function, const std::vector<Argument> &arguments,
                  const std::string &outcome) {
    std::string text;
    for (const Argument &each : arguments)
        text += (text.empty() ? "" : ", ") + json(each.name) + ": " + each.text;
    std::printf("{\"function\": %s, \"arguments\": {%s}, %s}\n", json(function).c_str(), text.c_str(),
                outcome.c_str());
}

template <typename... T>
static void record(const char *function, const std::vector<Argument> &arguments, const T &...result) {
    write(function, arguments, "\"results\": [" + (std::string() + ... + json(result)) + "]");
}

static void carts() {
    shop::Cart cart("Ada");
    shop::Discounted cheap("a customer with a long name, kept on the heap");
    static const std::string names[] = {"", "lamp", "fifteen letters", "sixteen letters.",
                                        std::string(300, 'x')};
    for (shop::Cart *each : {&cart, static_cast<shop::Cart *>(&cheap)}) {
        for (const std::string &name : names) {
            int id = ++last;
            std::vector<Argument> arguments = {{"this", *each}, {"id", id}, {"name", name}, {"price", 2.5}};
            record("shop::Cart::add", arguments, each->add(id, name, 2.5));
        }
        int id = ++last;
        record("shop::Cart::count", {{"this", *each}, {"id", id}}, each->count(id));
        id = ++last;
        record("shop::Cart::label", {{"this", *each}, {"id", id}}, each->label(id));
        id = ++last;
        record(each == &cart ? "shop::Cart::cost" : "shop::Discounted::cost",
               {{"this", *each}, {"id", id}, {"n", 8}}, each->cost(id, 8));
    }
    int id = ++last;
    record("shop::Cart::limit", {{"id", id}, {"b", 3}}, shop::Cart::limit(id, 3));
    for (shop::Colour colour : {shop::Colour::Red, shop::Colour::Green, shop::Colour::Blue}) {
        id = ++last;
        record("shop::paint", {{"id", id}, {"colour", colour}}, shop::paint(id, colour));
    }
}

static void functions() {
    for (int b : {2, -3, 1 << 20}) {
        int id = ++last;
        record("add", {{"id", id}, {"b", b}}, add(id, b));
    }
    int id = ++last;
    Money a{id, 250}, b{-id, -50};
    record("operator+", {{"a", a}, {"b", b}}, a + b);
    id = ++last;
    record("twice(int, int)", {{"id", id}, {"value", -4}}, twice(id, -4));
    id = ++last;
    record("twice(int, double)", {{"id", id}, {"value", 0.25}}, twice(id, 0.25));
    id = ++last;
    const std::string text = "again ";
    record("twice(int, std::string const&)", {{"id", id}, {"value", text}}, twice(id, text));
    id = ++last;
    record("times<3>", {{"id", id}, {"b", 5}}, times<3>(id, 5));
    id = ++last;
    record("times<-7>", {{"id", id}, {"b", 5}}, times<-7>(id, 5));
    id = ++last;
    record("biggest<int>", {{"id", id}, {"a", -1}, {"b", 6}}, biggest(id, -1, 6));
    id = ++last;
    record("biggest<double>", {{"id", id}, {"a", 0.5}, {"b", -6.5}}, biggest(id, 0.5, -6.5));
    for (const std::string &word : {std::string("short"), std::string(40, 'y')}) {
        id = ++last;
        record("take", {{"id", id}, {"text", word}}, take(id, word));
        id = ++last;
        record("view", {{"id", id}, {"text", word}}, view(id, word));
    }
    for (const std::vector<int> &values : {std::vector<int>{}, std::vector<int>{4, -5, 6}}) {
        id = ++last;
        record("total", {{"id", id}, {"values", values}}, total(id, values));
    }
    id = ++last;
    int bumped = 7;
    bump(id, bumped);
    record("bump", {{"id", id}, {"value", 7}});
    id = ++last;
    // owned: what it points to.
    record("owns", {{"id", id}, {"owned", id}}, owns(id, std::make_unique<int>(id)));
    auto grow = [bumped](int id, int b) __attribute__((noipa)) { return id + b + bumped; };
    id = ++last;
    record("functions()::{lambda(int, int)#1}::operator()", {{"id", id}, {"b", 2}}, grow(id, 2));
    id = ++last;
    record("(anonymous namespace)::secret", {{"id", id}, {"b", bumped}}, secret(id, bumped));
    for (int n : {4, 5}) {
        id = ++last;
        try {
            int result = through(id, n);
            record("risky", {{"id", id}, {"n", n}}, result - 1);
            record("through", {{"id", id}, {"n", n}}, result);
        } catch (const std::runtime_error &error) {
            write("risky", {{"id", id}, {"n", n}}, "\"left\": " + json(error.what()));
            write("through", {{"id", id}, {"n", n}}, "\"left\": " + json(error.what()));
        }
    }
}

static void fast(int calls) {
    auto from = std::chrono::steady_clock::now();
    for (int id = 0; id < calls; id++)
        if (add(id, 1) != id + 1)
            std::abort();
    std::chrono::nanoseconds took = std::chrono::steady_clock::now() - from;
    std::printf("{\"calls\": %d, \"nanoseconds\": %lld}\n", calls, static_cast<long long>(took.count()));
}

int main(int count, char **words) {
    std::vector<std::string> rest(words + 1, words + count);
    if (!rest.empty() && rest[0] == "--wait") {
        std::puts("{\"ready\": true}");
        std::fflush(stdout);
        while (std::getchar() >= ' ') {
        }
        rest.erase(rest.begin());
    }
    if (rest.size() == 2 && rest[0] == "--fast") {
        fast(std::stoi(rest[1]));
        return 0;
    }
    int rounds = rest.empty() ? -1 : std::stoi(rest[0]);
    for (int done = 0; done != rounds; done++) {
        if (done > 0)
            std::this_thread::sleep_for(std::chrono::milliseconds(500));
        carts();
        functions();
        std::fflush(stdout);
    }
}
