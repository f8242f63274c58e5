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
	#t;
	#n = /* @__PURE__ */ new Map();
	#r = !1;
	constructor(e, t) {
		this.#e = e, this.#t = t;
	}
	get position() {
		return {
			epoch: this.#e,
			offset: this.#t
		};
	}
	get isPlaced() {
		return this.#e !== "" && this.#t >= 0;
	}
	rewind(e) {
		this.#r = e !== this.#e;
	}
	name(e) {
		this.#e === "" && (this.#e = e);
	}
	takes(e, t) {
		return e === this.#e && (this.#r = !1), this.#r || t <= this.#i(e) ? !1 : (this.#a(e, t), !0);
	}
	misses(e) {
		let { epoch: t, from: n, to: r } = e;
		if ((t === this.#e || n === null) && (this.#r = !1), this.#r) return null;
		if (r === null) return e;
		let i = this.#i(t);
		return e.reason === "conflated" ? r < i ? null : e : r <= i ? null : (this.#a(t, r), n !== null && n <= i ? {
			...e,
			from: i + 1,
			count: null
		} : e);
	}
	isBehind(e) {
		return this.isPlaced ? this.#e === e.#e ? this.#t < e.#t : e.#n.has(this.#e) : !0;
	}
	#i(e) {
		return e === this.#e ? this.#t : this.#n.get(e) ?? -1;
	}
	#a(e, t) {
		e !== this.#e && (this.#n.set(this.#e, this.#t), this.#n.delete(e), this.#n.size > n && this.#n.delete(this.#n.keys().next().value), this.#e = e), this.#t = t;
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
		this.#c && e.searchParams.set("lastEventId", this.#c);
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
			case "subscribed":
				for (let [t, { epoch: n, offset: i }] of Object.entries(e.positions)) {
					this.#i.set(t, n);
					let a = this.#r.get(t);
					a === void 0 ? this.#r.set(t, new r(n, i)) : e.recovered[t] !== !1 && a.rewind(n);
				}
				return e;
			case "gap": return this.#i.set(e.channel, e.epoch), this.#f(e.channel, e.epoch).misses(e);
			case "event": {
				let t = e.epoch ?? this.#i.get(e.channel) ?? "";
				return this.#i.set(e.channel, t), this.#f(e.channel, t).takes(t, e.offset) ? {
					...e,
					epoch: t
				} : null;
			}
			default: return e;
		}
	}
	#f(e, t) {
		let n = this.#r.get(e) ?? new r(t, -1);
		return this.#r.set(e, n), n;
	}
};
export { a as EventStream };
