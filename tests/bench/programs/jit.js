// SPDX-License-Identifier: GPL-2.0-or-later
// Keeps a JIT compiler busy: code that is compiled, made anew, deoptimised. Usage: jit.js ROUNDS
"use strict";

function sieve(size) {
    const composite = new Uint8Array(size);
    let primes = 0;
    for (let i = 2; i < size; i++) {
        if (!composite[i]) {
            primes++;
            for (let j = i * i; j < size; j += i)
                composite[j] = 1;
        }
    }
    return primes;
}

class Shape { area() { return 0; } }
class Square extends Shape { constructor(a) { super(); this.a = a; } area() { return this.a * this.a; } }
class Disc extends Shape { constructor(r) { super(); this.r = r; } area() { return 3 * this.r * this.r; } }
class Box extends Shape { constructor(a, b) { super(); this.a = a; this.b = b; } area() { return this.a * this.b; } }

function shapes(count) {
    let sum = 0;
    for (let i = 0; i < count; i++) {
        const s = i % 3 === 0 ? new Square(i % 10) : i % 3 === 1 ? new Disc(i % 7) : new Box(i % 5, i % 11);
        sum = (sum + s.area()) % 1000003;
    }
    return sum;
}

// A new function each time: parsed, interpreted, compiled when it is hot, thrown away.
function generated(number) {
    const f = new Function("n", `let s = ${number}; for (let i = 0; i < n; i++) s = (s * ${number % 13 + 3} + i % ${number % 7 + 2}) % 65521; return s;`);
    let sum = 0;
    for (let i = 0; i < 30; i++)
        sum += f(1000);
    return sum;
}

// Types that change under compiled code.
function mixed(round) {
    const add = (a, b) => a + b;
    let length = 0;
    for (let i = 0; i < 20000; i++)
        length += String(round % 2 ? add(i, 0.5) : add("x", i)).length;
    return length;
}

function text(count) {
    const words = [];
    for (let i = 0; i < count; i++)
        words.push({ name: "word" + i * 7919 % 1009, value: i });
    const parsed = JSON.parse(JSON.stringify(words));
    parsed.sort((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : a.value - b.value);
    return parsed.map(w => w.name).join(" ").replace(/word(\d)(\d*)/g, "$2$1").length;
}

const rounds = Number(process.argv[2]);
let total = 0;
for (let round = 0; round < rounds; round++) {
    total += sieve(200000) + shapes(200000) + mixed(round) + text(5000);
    for (let i = 0; i < 20; i++)
        total += generated(round * 20 + i);
}
console.log(total);
