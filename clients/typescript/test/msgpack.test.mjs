import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { toJson } from "../dist/decode.js";
import { msgpack } from "../dist/index.js";

const vectors = JSON.parse(readFileSync(new URL("../../conformance/msgpack.json", import.meta.url), "utf8"));
const bytesOf = (hex) => Uint8Array.from(Buffer.from(hex, "hex"));
const decoded = (bytes) => msgpack.decode(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));

for (const { name, json, msgpack: hex } of vectors.from_gateway) {
  test(`a decoded message equals its JSON: ${name}`, () => {
    const expected = JSON.parse(json);
    if (expected.data_base64 !== undefined) {
      expected.data = Uint8Array.from(Buffer.from(expected.data_base64, "base64"));
      delete expected.data_base64;
    }
    assert.deepStrictEqual(decoded(bytesOf(hex)), expected);
  });
}

for (const { name, msgpack: hex, json } of vectors.to_gateway.slice(0, 3)) {
  test(`an encoded message equals the vector: ${name}`, () => {
    assert.equal(Buffer.from(msgpack.encode(JSON.parse(json))).toString("hex"), hex);
  });
}

test("values survive encoding and decoding", () => {
  const numbers = [0, 127, 128, 255, 256, 65535, 65536, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, 2 ** 64, -1, -32, -33, -129];
  const more = [-(2 ** 31), -(2 ** 31) - 1, -(2 ** 53) + 1, 0.5, -0, 5e-324, 1e300];
  const values = [...numbers, ...more, null, true, false, "", "é😀", "a".repeat(31), "a".repeat(32), "a".repeat(70_000)];
  const nested = { list: Array.from({ length: 70_000 }, (_, at) => at), many: Object.fromEntries(values.entries()) };
  const message = { values, nested, bytes: new Uint8Array(300).fill(7), none: new Uint8Array() };

  assert.deepStrictEqual(decoded(msgpack.encode(message)), message);
});

test("values that JSON omits or converts are treated the same in MessagePack", () => {
  const message = { none: undefined, list: [undefined, NaN, Infinity], at: new Date(0), run() {} };

  assert.deepStrictEqual(decoded(msgpack.encode(message)), JSON.parse(JSON.stringify(message)));
  assert.throws(() => msgpack.encode({ big: 1n }), TypeError);
});

test("a member named __proto__ stays a member", () => {
  const found = decoded(bytesOf("81a95f5f70726f746f5f5f01"));

  assert.deepEqual(Object.entries(found), [["__proto__", 1]]);
  assert.equal(Object.getPrototypeOf(found), Object.prototype);
});

test("bytes that are not a message are refused", () => {
  for (const hex of ["", "82a161", "c1", "8080", "a2fffe", "dfffffffff"]) {
    assert.throws(() => decoded(bytesOf(hex)), undefined, hex);
  }
});

test("an event that is bytes is base64 in JSON", () => {
  const data = new Uint8Array([255, 216, 255]);

  assert.deepEqual(JSON.parse(toJson({ event: data })), { event: { data_base64: "/9j/" } });
  assert.deepEqual(JSON.parse(toJson({ event: { event_type: "x", data } })), { event: { event_type: "x", data_base64: "/9j/" } });
  assert.deepEqual(JSON.parse(toJson({ event: { data: [1] } })), { event: { data: [1] } });
  assert.deepEqual(JSON.parse(toJson({ type: "ping" })), { type: "ping" });
});
