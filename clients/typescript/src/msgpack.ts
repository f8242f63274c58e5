import type { ServerMessage } from "./models.js";

const utf8 = { write: new TextEncoder(), read: new TextDecoder("utf-8", { fatal: true }) };

/** MessagePack; an integer beyond the exact range of `number` becomes the nearest number, as with JSON. */
export const msgpack = {
  name: "msgpack",
  decode(data: ArrayBuffer): ServerMessage {
    const reader = new Reader(data);
    const message = reader.value() as ServerMessage;
    if (reader.at !== data.byteLength) throw new TypeError(`a MessagePack message of ${data.byteLength} bytes ends at byte ${reader.at}`);
    return message;
  },
  encode(message: unknown): Uint8Array<ArrayBuffer> {
    const writer = new Writer();
    writer.value(message);
    return writer.bytes.slice(0, writer.at);
  },
} as const;

/** Reads values in sequence. */
class Reader {
  at = 0;
  readonly #view: DataView;

  constructor(data: ArrayBuffer) {
    this.#view = new DataView(data);
  }

  value(): unknown {
    const first = this.#view.getUint8(this.#skip(1));
    if (first < 0x80) return first;
    if (first < 0x90) return this.#map(first & 15);
    if (first < 0xa0) return this.#array(first & 15);
    if (first < 0xc0) return this.#text(first & 31);
    if (first >= 0xe0) return first - 0x100;
    const view = this.#view;
    switch (first) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return this.#bytes(this.#size(first - 0xc4)).slice();
      case 0xca:
        return view.getFloat32(this.#skip(4));
      case 0xcb:
        return view.getFloat64(this.#skip(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
        return this.#size(first - 0xcc);
      case 0xcf:
        return Number(view.getBigUint64(this.#skip(8)));
      case 0xd0:
        return view.getInt8(this.#skip(1));
      case 0xd1:
        return view.getInt16(this.#skip(2));
      case 0xd2:
        return view.getInt32(this.#skip(4));
      case 0xd3:
        return Number(view.getBigInt64(this.#skip(8)));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.#text(this.#size(first - 0xd9));
      case 0xdc:
      case 0xdd:
        return this.#array(this.#size(first - 0xdb));
      case 0xde:
      case 0xdf:
        return this.#map(this.#size(first - 0xdd));
    }
    throw new TypeError(`a MessagePack message has the unexpected type byte 0x${first.toString(16)}`);
  }

  #skip(size: number): number {
    const at = this.at;
    this.at += size;
    return at;
  }

  /** Reads an unsigned integer of 1, 2 or 4 bytes. */
  #size(power: number): number {
    const at = this.#skip(1 << power);
    return power === 0 ? this.#view.getUint8(at) : power === 1 ? this.#view.getUint16(at) : this.#view.getUint32(at);
  }

  #bytes(size: number): Uint8Array {
    return new Uint8Array(this.#view.buffer as ArrayBuffer, this.#skip(size), size);
  }

  #text(size: number): string {
    return utf8.read.decode(this.#bytes(size));
  }

  #array(size: number): unknown[] {
    const found: unknown[] = [];
    while (found.length < size) found.push(this.value());
    return found;
  }

  #map(size: number): Record<string, unknown> {
    const found: [string, unknown][] = [];
    while (found.length < size) found.push([String(this.value()), this.value()]);
    return Object.fromEntries(found); // correct for a key `__proto__`, too
  }
}

/** Writes JSON's types, and bytes. */
class Writer {
  bytes = new Uint8Array(256);
  at = 0;

  value(value: unknown): void {
    if (value instanceof Uint8Array) return this.#bytes(value);
    if (typeof (value as { toJSON?: unknown } | null)?.toJSON === "function") {
      return this.value((value as { toJSON(): unknown }).toJSON());
    }
    if (value === true || value === false) return this.#number(1, value ? 0xc3 : 0xc2);
    if (typeof value === "number" && Number.isFinite(value)) return this.#double(value);
    if (typeof value === "string") return this.#text(value);
    if (Array.isArray(value)) {
      this.#head(value.length, 0x90, 15, [0, 0xdc, 0xdd]);
      for (const one of value) this.value(one);
    } else if (typeof value === "object" && value !== null) {
      const members = Object.entries(value).filter(([, one]) => one !== undefined && typeof one !== "function");
      this.#head(members.length, 0x80, 15, [0, 0xde, 0xdf]);
      for (const [name, one] of members) {
        this.#text(name);
        this.value(one);
      }
    } else if (typeof value === "bigint") {
      throw new TypeError("a message cannot contain a BigInt: convert it to a number or a string"); // as with JSON
    } else this.#number(1, 0xc0);
  }

  #double(value: number): void {
    if (!Number.isInteger(value) || Object.is(value, -0) || value > 0xffffffff || value < -0x80000000) {
      this.#number(1, 0xcb);
      const view = this.#view(8);
      if (Number.isSafeInteger(value) && !Object.is(value, -0)) {
        this.bytes[this.at - 9] = 0xd3;
        view.setBigInt64(0, BigInt(value));
      } else view.setFloat64(0, value);
    } else if (value >= 0) this.#head(value, 0, 127, [0xcc, 0xcd, 0xce]);
    else if (value >= -32) this.#number(1, value & 0xff);
    else {
      this.#number(1, 0xd2);
      this.#number(4, value);
    }
  }

  #bytes(value: Uint8Array): void {
    this.#head(value.length, 0, -1, [0xc4, 0xc5, 0xc6]);
    this.#raw(value);
  }

  #text(value: string): void {
    const bytes = utf8.write.encode(value);
    this.#head(bytes.length, 0xa0, 31, [0xd9, 0xda, 0xdb]);
    this.#raw(bytes);
  }

  /** Writes a size or a positive integer: in the first byte if it fits, else after one of `types` for 1, 2, 4 bytes. */
  #head(size: number, first: number, most: number, types: [number, number, number]): void {
    if (size <= most) return this.#number(1, first | size);
    const power = size < 0x100 && types[0] ? 0 : size < 0x10000 ? 1 : 2;
    this.#number(1, types[power]!);
    this.#number(1 << power, size);
  }

  #number(size: number, value: number): void {
    const view = this.#view(size);
    if (size === 1) view.setUint8(0, value);
    else if (size === 2) view.setUint16(0, value);
    else view.setUint32(0, value);
  }

  #raw(bytes: Uint8Array): void {
    this.#view(bytes.length);
    this.bytes.set(bytes, this.at - bytes.length);
  }

  /** Reserves `count` more bytes, and returns their offset. */
  #view(size: number): DataView {
    const end = this.at + size;
    if (end > this.bytes.length) {
      const larger = new Uint8Array(Math.max(end, this.bytes.length * 2));
      larger.set(this.bytes);
      this.bytes = larger;
    }
    const view = new DataView(this.bytes.buffer, this.at, size);
    this.at = end;
    return view;
  }
}
