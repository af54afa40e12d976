//! Calls known functions with known arguments, and logs each call as a JSON object a line.
//!
//!     calls [--wait] [ROUNDS | --fast CALLS]
//!
//! Without --fast: a round of all calls every half second, for ever or ROUNDS times.

use std::io::{self, BufRead, Write};
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

// What is traced. Called by way of `opaque`, so that the optimizer leaves arguments where they belong.

#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
pub enum Colour {
    Red,
    Green = 5,
    Blue = 200,
}

pub struct Two {
    a: u64,
    b: u64,
}

pub struct Three {
    a: u64,
    b: u64,
    c: u64,
}

pub enum Event {
    Stopped,
    Moved { x: i32, y: i32 },
    Named(String),
}

pub mod shop {
    pub struct Account {
        pub name: String,
        pub balance: i64,
        pub open: bool,
    }

    impl Account {
        #[inline(never)]
        pub fn balance(&self, id: u64) -> i64 {
            self.balance - id as i64
        }

        #[inline(never)]
        pub fn deposit(&mut self, id: u64, amount: i64) -> i64 {
            self.balance += amount;
            self.balance + id as i64
        }

        #[inline(never)]
        pub fn create(id: u64, name: &str) -> Account {
            Account { name: name.to_string(), balance: id as i64, open: true }
        }
    }
}

use shop::Account;

pub trait Shape {
    fn area(&self, id: u64) -> f64;
}

pub struct Square {
    side: f64,
}

impl Shape for Square {
    #[inline(never)]
    fn area(&self, id: u64) -> f64 {
        self.side * self.side + id as f64
    }
}

#[inline(never)]
pub fn add(id: u64, b: i32) -> i64 {
    id as i64 + b as i64
}

#[inline(never)]
pub fn pair(id: u64, small: u8, big: i64, flag: bool, letter: char) -> (u64, bool) {
    (id + small as u64 + letter as u64, flag != (big < 0))
}

#[inline(never)]
pub fn narrow(id: u64, a: i8, b: u16, c: i16) -> i16 {
    (id as i16).wrapping_add(a as i16).wrapping_add(b as i16).wrapping_add(c)
}

#[inline(never)]
pub fn wide(id: u64, value: u128) -> u128 {
    value - id as u128
}

#[inline(never)]
pub fn scale(id: u64, x: f64, y: f32) -> f64 {
    id as f64 + x * y as f64
}

#[inline(never)]
pub fn length(id: u64, text: &str) -> usize {
    id as usize + text.len()
}

#[inline(never)]
pub fn greet(id: u64, name: String) -> String {
    format!("hello {} {}", name, id)
}

#[inline(never)]
pub fn total(id: u64, values: &[i32]) -> i64 {
    values.iter().fold(id as i64, |sum, value| sum + *value as i64)
}

#[inline(never)]
pub fn count(id: u64, values: &Vec<i32>) -> usize {
    id as usize + values.len()
}

#[inline(never)]
pub fn borrow_two(id: u64, value: &Two) -> u64 {
    id + value.a - value.b
}

#[inline(never)]
pub fn pass_two(id: u64, value: Two) -> u64 {
    id + value.a - value.b
}

#[inline(never)]
pub fn pass_three(id: u64, value: Three) -> u64 {
    id + value.a - value.b + value.c
}

#[inline(never)]
pub fn give_two(id: u64, a: u64) -> Two {
    Two { a, b: id }
}

#[inline(never)]
pub fn give_three(id: u64, a: u64) -> Three {
    Three { a, b: id, c: 3 }
}

#[inline(never)]
pub fn paint(id: u64, colour: Colour) -> Colour {
    match colour {
        Colour::Red if id > 0 => Colour::Green,
        Colour::Green => Colour::Blue,
        _ => Colour::Red,
    }
}

#[inline(never)]
pub fn handle(id: u64, event: Event) -> u64 {
    match event {
        Event::Stopped => id,
        Event::Moved { x, y } => id + (x + y) as u64,
        Event::Named(name) => id + name.len() as u64,
    }
}

#[inline(never)]
pub fn half(id: u64, n: Option<u32>) -> Option<u32> {
    n.filter(|n| n % 2 == 0 && id > 0).map(|n| n / 2)
}

#[inline(never)]
pub fn check(id: u64, n: u32) -> Result<u32, String> {
    if n % 2 == 0 {
        Ok(n + id as u32)
    } else {
        Err(format!("odd: {}", n))
    }
}

#[inline(never)]
pub fn find<'a>(id: u64, accounts: &'a [Account], name: &str) -> Option<&'a Account> {
    accounts.iter().find(|account| account.name == name && id > 0)
}

#[inline(never)]
pub fn swap(id: u64, both: (u32, i32)) -> (i32, u32) {
    (both.1, both.0 + id as u32)
}

#[inline(never)]
pub fn largest<T: PartialOrd + Copy>(id: u64, a: T, b: T) -> T {
    if a > b && id > 0 {
        a
    } else {
        b
    }
}

#[inline(never)]
pub fn area(id: u64, shape: &dyn Shape) -> f64 {
    shape.area(id)
}

#[inline(always)]
pub fn inlined(id: u64, b: u64) -> u64 {
    id * 5 + b
}

#[inline(never)]
pub fn nothing(id: u64, seen: &mut u64) {
    *seen = id;
}

/// Panics for odd n; who calls it catches that.
#[inline(never)]
pub fn risky(id: u64, n: u32) -> u64 {
    if n % 2 != 0 {
        panic!("odd: {}", n);
    }
    id + n as u64
}

#[inline(never)]
pub fn fib(id: u64, n: u32) -> u32 {
    let fib = opaque(fib as fn(u64, u32) -> u32);
    let result = if n < 2 { n } else { fib(id, n - 1) + fib(id, n - 2) };
    log("calls::fib", &[("id", &id), ("n", &n)], &[&result]);
    result
}

// What is not traced: log and rounds.

static LAST: AtomicU64 = AtomicU64::new(0);

fn next() -> u64 {
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// The same value, of which the optimizer knows nothing any more.
fn opaque<T: Copy>(value: T) -> T {
    unsafe { std::ptr::read_volatile(&value) }
}

/// A value as the log has it.
trait Json {
    fn json(&self) -> String;
}

macro_rules! json_as_shown {
    ($($kind:ty),*) => { $(impl Json for $kind { fn json(&self) -> String { self.to_string() } })* };
}
json_as_shown!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, f32, f64, bool);

impl Json for str {
    fn json(&self) -> String {
        format!("\"{}\"", self.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
    }
}

impl Json for &str {
    fn json(&self) -> String {
        (**self).json()
    }
}

impl Json for String {
    fn json(&self) -> String {
        self.as_str().json()
    }
}

impl Json for char {
    fn json(&self) -> String {
        self.to_string().json()
    }
}

impl<T: Json> Json for &[T] {
    fn json(&self) -> String {
        format!("[{}]", self.iter().map(Json::json).collect::<Vec<_>>().join(", "))
    }
}

impl<T: Json> Json for Option<T> {
    fn json(&self) -> String {
        self.as_ref().map_or("\"None\"".to_string(), |value| format!("{{\"Some\": {}}}", value.json()))
    }
}

impl<T: Json, E: Json> Json for Result<T, E> {
    fn json(&self) -> String {
        match self {
            Ok(value) => format!("{{\"Ok\": {}}}", value.json()),
            Err(error) => format!("{{\"Err\": {}}}", error.json()),
        }
    }
}

impl<A: Json, B: Json> Json for (A, B) {
    fn json(&self) -> String {
        format!("[{}, {}]", self.0.json(), self.1.json())
    }
}

impl Json for Colour {
    fn json(&self) -> String {
        match self {
            Colour::Red => "Red".json(),
            Colour::Green => "Green".json(),
            Colour::Blue => "Blue".json(),
        }
    }
}

impl Json for Event {
    fn json(&self) -> String {
        match self {
            Event::Stopped => "Stopped".json(),
            Event::Moved { x, y } => format!("{{\"Moved\": {{\"x\": {}, \"y\": {}}}}}", x, y),
            Event::Named(name) => format!("{{\"Named\": {}}}", name.json()),
        }
    }
}

impl Json for Two {
    fn json(&self) -> String {
        format!("{{\"a\": {}, \"b\": {}}}", self.a, self.b)
    }
}

impl Json for Three {
    fn json(&self) -> String {
        format!("{{\"a\": {}, \"b\": {}, \"c\": {}}}", self.a, self.b, self.c)
    }
}

impl Json for Square {
    fn json(&self) -> String {
        format!("{{\"side\": {}}}", self.side)
    }
}

impl Json for Account {
    fn json(&self) -> String {
        let name = self.name.json();
        format!("{{\"name\": {}, \"balance\": {}, \"open\": {}}}", name, self.balance, self.open)
    }
}

impl Json for &Account {
    fn json(&self) -> String {
        (**self).json()
    }
}

type Arguments<'a> = &'a [(&'a str, &'a dyn Json)];

fn log(function: &str, arguments: Arguments, results: &[&dyn Json]) {
    let all: Vec<String> = results.iter().map(|each| each.json()).collect();
    write(function, arguments, &format!("\"results\": [{}]", all.join(", ")));
}

fn write(function: &str, arguments: Arguments, outcome: &str) {
    let all: Vec<String> =
        arguments.iter().map(|(name, value)| format!("\"{}\": {}", name, value.json())).collect();
    print!("{{\"function\": {}, \"arguments\": {{{}}}, {}}}\n", function.json(), all.join(", "), outcome);
}

fn numbers() {
    for b in [2, -3, 1 << 20] {
        let id = next();
        let result = opaque(add as fn(_, _) -> _)(id, b);
        log("calls::add", &[("id", &id), ("b", &b)], &[&result]);
    }
    let id = next();
    let (small, big, flag, letter) = (255u8, -1i64 << 62, true, 'ë');
    let result = opaque(pair as fn(_, _, _, _, _) -> _)(id, small, big, flag, letter);
    log(
        "calls::pair",
        &[("id", &id), ("small", &small), ("big", &big), ("flag", &flag), ("letter", &letter)],
        &[&result],
    );
    let id = next();
    let (a, b, c) = (-128i8, 65535u16, -32768i16);
    let result = opaque(narrow as fn(_, _, _, _) -> _)(id, a, b, c);
    log("calls::narrow", &[("id", &id), ("a", &a), ("b", &b), ("c", &c)], &[&result]);
    let id = next();
    let value = 1u128 << 100;
    let result = opaque(wide as fn(_, _) -> _)(id, value);
    log("calls::wide", &[("id", &id), ("value", &value)], &[&result]);
    let id = next();
    let (x, y) = (0.75, -2.5f32);
    let result = opaque(scale as fn(_, _, _) -> _)(id, x, y);
    log("calls::scale", &[("id", &id), ("x", &x), ("y", &y)], &[&result]);
    for colour in [Colour::Red, Colour::Green, Colour::Blue] {
        let id = next();
        let result = opaque(paint as fn(_, _) -> _)(id, colour);
        log("calls::paint", &[("id", &id), ("colour", &colour)], &[&result]);
    }
    let id = next();
    let result = opaque(largest as fn(u64, i32, i32) -> i32)(id, -1, 6);
    log("calls::largest<i32>", &[("id", &id), ("a", &-1), ("b", &6)], &[&result]);
    let id = next();
    let result = opaque(largest as fn(u64, f64, f64) -> f64)(id, 0.5, -6.5);
    log("calls::largest<f64>", &[("id", &id), ("a", &0.5), ("b", &-6.5)], &[&result]);
    let id = next();
    let result = inlined(opaque(id), 2);
    log("calls::inlined", &[("id", &id), ("b", &2)], &[&result]);
    let id = next();
    let mut seen = 7u64;
    opaque(nothing as fn(_, &mut _) -> _)(id, &mut seen);
    log("calls::nothing", &[("id", &id), ("seen", &7)], &[]);
    let base = opaque(40u64);
    let closure: &dyn Fn(u64, u64) -> u64 = &|id, b| id + b + base;
    let id = next();
    let result = opaque(closure)(id, 2);
    log("calls::numbers::{{closure}}", &[("id", &id), ("b", &2)], &[&result]);
}

fn texts() {
    let long = "long ".repeat(60);
    for text in ["", "Ada", "Zoë", "two\nlines \"quoted\" \\", &long] {
        let id = next();
        let result = opaque(length as fn(_, &str) -> _)(id, text);
        log("calls::length", &[("id", &id), ("text", &text)], &[&result]);
        let id = next();
        let result = opaque(greet as fn(_, _) -> _)(id, text.to_string());
        log("calls::greet", &[("id", &id), ("name", &text)], &[&result]);
    }
    for values in [vec![], vec![4, -5, 6]] {
        let id = next();
        let result = opaque(total as fn(_, &[_]) -> _)(id, &values);
        log("calls::total", &[("id", &id), ("values", &values.as_slice())], &[&result]);
        let id = next();
        let result = opaque(count as fn(_, &Vec<_>) -> _)(id, &values);
        log("calls::count", &[("id", &id), ("values", &values.as_slice())], &[&result]);
    }
}

fn structs(accounts: &mut [Account]) {
    let two = || Two { a: 1 << 40, b: 2 };
    let three = || Three { a: 1 << 40, b: 2, c: 3 };
    let id = next();
    let result = opaque(borrow_two as fn(_, &_) -> _)(id, &two());
    log("calls::borrow_two", &[("id", &id), ("value", &two())], &[&result]);
    let id = next();
    let result = opaque(pass_two as fn(_, _) -> _)(id, two());
    log("calls::pass_two", &[("id", &id), ("value", &two())], &[&result]);
    let id = next();
    let result = opaque(pass_three as fn(_, _) -> _)(id, three());
    log("calls::pass_three", &[("id", &id), ("value", &three())], &[&result]);
    let id = next();
    let result = opaque(give_two as fn(_, _) -> _)(id, 70u64);
    log("calls::give_two", &[("id", &id), ("a", &70)], &[&result]);
    let id = next();
    let result = opaque(give_three as fn(_, _) -> _)(id, 70u64);
    log("calls::give_three", &[("id", &id), ("a", &70)], &[&result]);
    let events: [fn() -> Event; 3] = [
        || Event::Stopped,
        || Event::Moved { x: 3, y: -1 },
        || Event::Named("fire".to_string()),
    ];
    for event in events {
        let id = next();
        let result = opaque(handle as fn(_, _) -> _)(id, event());
        log("calls::handle", &[("id", &id), ("event", &event())], &[&result]);
    }
    let id = next();
    let both = (7u32, -8i32);
    let result = opaque(swap as fn(_, _) -> _)(id, both);
    log("calls::swap", &[("id", &id), ("both", &both)], &[&result]);
    for name in ["savings", "absent"] {
        let id = next();
        let result = opaque(find as fn(_, &'static _, &str) -> _)(id, fixed_accounts(), name);
        log("calls::find", &[("id", &id), ("accounts", &fixed_accounts()), ("name", &name)], &[&result]);
    }
    for account in accounts {
        let id = next();
        let before = account.json();
        let result = opaque(Account::deposit as fn(&mut _, _, _) -> _)(account, id, 10i64);
        let arguments: Arguments = &[("self", &Raw(before)), ("id", &id), ("amount", &10)];
        log("calls::shop::Account::deposit", arguments, &[&result]);
        let id = next();
        let result = opaque(Account::balance as fn(&_, _) -> _)(account, id);
        log("calls::shop::Account::balance", &[("self", account), ("id", &id)], &[&result]);
    }
    let id = next();
    let result = opaque(Account::create as fn(_, &str) -> _)(id, "new");
    log("calls::shop::Account::create", &[("id", &id), ("name", &"new")], &[&result]);
    let id = next();
    let square = Square { side: 1.5 };
    let result = opaque(area as fn(_, &dyn Shape) -> _)(id, &square);
    log("<calls::Square as calls::Shape>::area", &[("self", &square), ("id", &id)], &[&result]);
    // shape: what it points to.
    log("calls::area", &[("id", &id), ("shape", &square)], &[&result]);
}

/// What is JSON already.
struct Raw(String);

impl Json for Raw {
    fn json(&self) -> String {
        self.0.clone()
    }
}

fn fixed_accounts() -> &'static [Account] {
    static mut ACCOUNTS: Vec<Account> = Vec::new();
    // One thread only.
    unsafe {
        if ACCOUNTS.is_empty() {
            ACCOUNTS.push(Account { name: "empty".to_string(), balance: 0, open: false });
            ACCOUNTS.push(Account { name: "savings".to_string(), balance: -7, open: true });
        }
        &ACCOUNTS
    }
}

fn outcomes() {
    for n in [None, Some(5u32), Some(6)] {
        let id = next();
        let result = opaque(half as fn(_, _) -> _)(id, n);
        log("calls::half", &[("id", &id), ("n", &n)], &[&result]);
    }
    for n in [4u32, 5] {
        let id = next();
        let result = opaque(check as fn(_, _) -> _)(id, n);
        log("calls::check", &[("id", &id), ("n", &n)], &[&result]);
        let id = next();
        match panic::catch_unwind(|| opaque(risky as fn(_, _) -> _)(id, n)) {
            Ok(result) => log("calls::risky", &[("id", &id), ("n", &n)], &[&result]),
            Err(problem) => {
                let text = problem.downcast_ref::<String>().unwrap();
                let outcome = format!("\"left\": {}", text.json());
                write("calls::risky", &[("id", &id), ("n", &n)], &outcome);
            }
        }
    }
    opaque(fib as fn(u64, u32) -> u32)(next(), 6);
}

fn fast(calls: u64) {
    let start = Instant::now();
    let add = opaque(add as fn(u64, i32) -> i64);
    for id in 0..calls {
        assert!(add(id, 1) == id as i64 + 1);
    }
    println!("{{\"calls\": {}, \"nanoseconds\": {}}}", calls, start.elapsed().as_nanos());
}

fn main() {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().map_or(false, |word| word == "--wait") {
        words.remove(0);
        println!("{{\"ready\": true}}");
        io::stdin().lock().read_line(&mut String::new()).unwrap();
    }
    if words.len() == 2 && words[0] == "--fast" {
        return fast(words[1].parse().unwrap());
    }
    let rounds: Option<u64> = words.first().map(|word| word.parse().unwrap());
    // Not a word on stderr about panics that are meant to be.
    panic::set_hook(Box::new(|_| ()));
    let mut accounts = [
        Account { name: "savings".to_string(), balance: 100, open: true },
        Account { name: String::new(), balance: -5, open: false },
    ];
    let mut done = 0;
    while rounds != Some(done) {
        if done > 0 {
            sleep(Duration::from_millis(500));
        }
        numbers();
        texts();
        structs(&mut accounts);
        outcomes();
        io::stdout().flush().unwrap();
        done += 1;
    }
}
