// ../typescript/src/models.ts
var e = {
	PROTOCOL_ERROR: 1002,
	BINARY: 1003,
	INVALID_TEXT: 1007,
	TOO_LARGE: 1009,
	INTERNAL: 1011,
	RESTART: 1012,
	TRY_LATER: 1013,
	SLOW_CONSUMER: 4e3,
	HEARTBEAT_TIMEOUT: 4001,
	TOKEN_EXPIRED: 4002,
	REBALANCED: 4003,
	SESSION_TAKEN_OVER: 4500,
	UNAUTHORIZED: 4501,
	AUTH_TIMEOUT: 4502,
	USER_LIMIT: 4503,
	DISCONNECTED: 4504
};
e.PROTOCOL_ERROR, e.BINARY, e.INVALID_TEXT, e.TOO_LARGE;
function t(e, [t, n]) {
	return Math.random() * Math.min(n, t * 2 ** e);
}
// ../typescript/src/track.ts
var n = 64, r = class {
	#e;
	#t = /* @__PURE__ */ new Map();
	#n = /* @__PURE__ */ new Map();
	#r = /* @__PURE__ */ new Set();
	constructor({ epoch: e, offset: t, others: n = {} }) {
		this.#e = e, this.#t.set(e, t);
		for (let [e, t] of Object.entries(n)) this.#t.set(e, t);
	}
	get position() {
		let { [this.#e]: e = -1, ...t } = Object.fromEntries(this.#t);
		return {
			epoch: this.#e,
			offset: e,
			...this.#t.size > 1 && { others: t }
		};
	}
	get isPlaced() {
		return this.#e !== "" && this.#i(this.#e) >= 0;
	}
	rewind({ epoch: e, offset: t, others: n = {} }) {
		let r = new Map([[e, t], ...Object.entries(n)]), i = [...this.#t].some(([e, t]) => (r.get(e) ?? -1) < t);
		this.#r.clear();
		for (let [e, t] of r) this.#i(e) >= 0 || (i ? t > 0 && this.#r.add(e) : this.#a(e, t));
	}
	name(e) {
		this.#e === "" && (this.#e = e, this.#t.set(e, this.#t.get("") ?? -1), this.#t.delete(""));
	}
	takes(e, t, n = !1) {
		if (this.#r.has(e)) return !1;
		let r = this.#i(e);
		return r >= 0 && t >= r && this.#r.clear(), t <= r ? !1 : (this.#a(e, t), this.#e = e, n && this.#t.size > 1 && this.#s(), !0);
	}
	misses(e) {
		let { epoch: t, from: n, to: r, count: i, reason: a } = e;
		if (r === null) return this.#r.delete(t) || !this.#o(t) || i === 0 ? null : e;
		if (n === null && this.#r.clear(), this.#r.has(t)) return null;
		let o = this.#i(t);
		return a === "conflated" ? r < o ? null : e : r <= o ? null : (this.#a(t, r), this.#e = t, a === "epoch" && o < 0 && this.#s(), n !== null && n <= o ? {
			...e,
			from: o + 1,
			count: null
		} : e);
	}
	isBehind(e) {
		return !this.isPlaced || [...this.#t].some(([t, n]) => e.#n.has(t) || (e.#t.get(t) ?? n) > n);
	}
	#i(e) {
		return this.#t.get(e) ?? this.#n.get(e) ?? -1;
	}
	#a(e, t) {
		this.#n.delete(e), this.#t.set(e, t), this.#t.size > n && this.#o(this.#t.keys().next().value);
	}
	#o(e) {
		let t = this.#t.get(e);
		return t === void 0 ? !this.#n.has(e) : (this.#t.size === 1 || (this.#t.delete(e), this.#n.set(e, t), this.#n.size > n && this.#n.delete(this.#n.keys().next().value), e === this.#e && (this.#e = this.#t.keys().next().value)), !0);
	}
	#s() {
		for (let e of [...this.#t.keys()]) e !== this.#e && this.#o(e);
	}
}, i = [
	"connected",
	"subscribed",
	"gap",
	"error",
	"closing"
], a = class {
	#e;
	#t;
	#n;
	#r = /* @__PURE__ */ new Map();
	#i = /* @__PURE__ */ new Map();
	#a;
	#o;
	#s = 0;
	#c;
	constructor(e, t, n = {}) {
		this.#e = e, this.#t = t, this.#n = n, this.#c = n.lastEventId ?? "", this.#l();
	}
	get lastEventId() {
		return this.#c;
	}
	close() {
		clearTimeout(this.#o), this.#a?.close();
	}
	#l() {
		let e = new URL(this.#e, globalThis.location?.href);
		if (this.#c) {
			e.searchParams.delete("lastEventId");
			let t = encodeURIComponent(this.#c).replace(/%(?:2C|3A|3D)/g, decodeURIComponent);
			e.search += `${e.search ? "&" : "?"}lastEventId=${t}`;
		}
		let { EventSource: n = globalThis.EventSource, withCredentials: r = !1 } = this.#n, a = this.#a = new n(e, { withCredentials: r });
		a.onopen = () => {
			this.#s = 0;
		}, a.onmessage = (e) => this.#u(e);
		for (let e of i) a.addEventListener(e, (e) => "data" in e && this.#u(e));
		a.onerror = () => {
			if (a.readyState !== a.CLOSED || a !== this.#a) return;
			let e = t(this.#s++, this.#n.backoffMs ?? [500, 2e4]);
			clearTimeout(this.#o), this.#o = setTimeout(() => this.#l(), e);
		};
	}
	#u({ data: e, lastEventId: t }) {
		this.#c = t;
		let n = JSON.parse(e), r = this.#d(n);
		n.type === "closing" && !n.reconnect && this.close(), r && this.#t(r);
	}
	#d(e) {
		switch (e.type) {
			case "connected": return this.#r.delete("$personal"), e;
			case "subscribed":
				for (let [t, n] of Object.entries(e.positions)) {
					this.#i.set(t, n.epoch);
					let i = this.#r.get(t);
					i === void 0 ? this.#r.set(t, new r(n)) : e.recovered[t] !== !1 && i.rewind(n);
				}
				return e;
			case "gap": return this.#i.set(e.channel, e.epoch), this.#f(e.channel, e.epoch).misses(e);
			case "event": {
				let t = e.epoch ?? this.#i.get(e.channel) ?? "";
				return this.#i.set(e.channel, t), this.#f(e.channel, t).takes(t, e.offset, e.epoch === void 0) ? {
					...e,
					epoch: t
				} : null;
			}
			default: return e;
		}
	}
	#f(e, t) {
		let n = this.#r.get(e) ?? new r({
			epoch: t,
			offset: -1
		});
		return this.#r.set(e, n), n;
	}
};
export { a as EventStream };
