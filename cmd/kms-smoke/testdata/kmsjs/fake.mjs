// A WebSocket, a clock and a /versions that do what the test says.

import { Client } from "./kms.js";

export class FakeSocket {
  static all = [];
  readyState = 0;
  closed = null; // the code it was closed with from this side
  #sent = [];

  constructor(url) {
    this.url = url;
    FakeSocket.all.push(this);
  }

  send(text) {
    const ops = JSON.parse(text);
    if (ops.length > 64 || text.length > 16384) throw new Error(`a frame of ${ops.length} operations, ${text.length} characters`);
    this.#sent.push(...ops);
  }

  close(code) {
    this.readyState = 3;
    this.closed = code;
  }

  // What the server does.

  open() {
    this.readyState = 1;
    this.onopen?.();
  }

  says(...ops) {
    this.onmessage?.({ data: JSON.stringify(ops) });
  }

  ends(code, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  // heard takes what came since it was last asked.
  heard() {
    return this.#sent.splice(0);
  }

  // greets opens, logs in as aki and subscribes to what is asked for at seq, resuming what can be.
  greets(seq = 10) {
    this.open();
    this.says({ op: "welcome", tenant: "demo", user: "aki", name: "あき", time: 0, max_frame: 16384, max_ops: 64 });
    const ops = this.heard();
    for (const sub of ops.filter((o) => o.op === "sub")) this.says(subbed(sub, seq));
    return ops;
  }
}

export function subbed(sub, seq = 10, more = {}) {
  return { op: "subbed", ch: sub.ch, epoch: "e1", seq, first: 1, ...(sub.resume && { resumed: true }), ...more };
}

export const msg = (seq, text = `m${seq}`, more = {}) => ({ op: "msg", ch: "lobby", seq, id: `id-${seq}`, user: "bob", name: "Bob", text, at: seq, ...more });

// clock replaces the timers. Nothing passes but what `pass` lets pass.
export class Clock {
  now = 0;
  #timers = new Map();
  #count = 0;
  #real = {};

  constructor() {
    const fakes = {
      setTimeout: (f, ms = 0) => this.#add(f, ms, false),
      setInterval: (f, ms) => this.#add(f, ms, true),
      clearTimeout: (id) => this.#timers.delete(id),
      clearInterval: (id) => this.#timers.delete(id),
    };
    for (const [name, fake] of Object.entries(fakes)) {
      this.#real[name] = globalThis[name];
      globalThis[name] = fake;
    }
    this.#real.random = Math.random;
  }

  restore() {
    const { random, ...timers } = this.#real;
    Object.assign(globalThis, timers);
    Math.random = random;
  }

  get running() {
    return this.#timers.size;
  }

  #add(f, ms, again) {
    this.#timers.set(++this.#count, { f, at: this.now + ms, again: again && ms });
    return this.#count;
  }

  // pass lets time go by, with what is due in its order.
  async pass(ms) {
    const end = this.now + ms;
    await settle();
    for (;;) {
      const [id, t] = [...this.#timers].filter(([, t]) => t.at <= end).sort(([, a], [, b]) => a.at - b.at)[0] ?? [];
      if (!t) break;
      this.now = t.at;
      if (t.again) t.at += t.again;
      else this.#timers.delete(id);
      t.f();
      await settle();
    }
    this.now = end;
  }
}

// settle lets promises that are due run.
export const settle = () => new Promise((resolve) => setImmediate(resolve));

// world is a client on fakes, and all that it told.
export function world(t, options = {}) {
  FakeSocket.all = [];
  const clock = new Clock();
  const events = [];
  const asked = [];
  const w = { clock, events, asked, versions: ["1.0", "2.0"] };
  w.kms = new Client({
    server: "https://chat.example.com", tenant: "demo", token: "tok", WebSocket: FakeSocket,
    fetch: async (url) => {
      asked.push(url);
      if (!w.versions) throw new Error("unreachable");
      return { ok: true, json: async () => ({ versions: w.versions.map((version) => ({ version })) }) };
    },
    ...options,
  });
  for (const name of ["state", "message", "system", "edit", "delete", "presence", "truncated", "evicted", "delay", "versions", "deprecated"]) {
    w.kms.on(name, (e) => events.push([name, e]));
  }
  for (const call of ["join", "say"]) { // a test looks at what comes of it when it likes
    const real = w.kms[call].bind(w.kms);
    w.kms[call] = (...args) => {
      const promise = real(...args);
      promise.catch(() => {});
      return promise;
    };
  }
  t.after(() => {
    w.kms.close();
    clock.restore();
  });
  w.socket = () => FakeSocket.all.at(-1);
  w.told = (name) => events.filter(([n]) => n === name).map(([, e]) => e);
  w.texts = () => w.told("message").map((m) => m.text);
  w.states = () => w.told("state").map((s) => s.state);
  // joined connects and is in the lobby at seq 10.
  w.joined = async (options) => {
    w.kms.connect();
    const joined = w.kms.join("lobby", options);
    await settle();
    w.socket().greets();
    await joined;
    w.socket().heard();
    return w.socket();
  };
  return w;
}

// outcome tells how a promise ended, or that it has not.
export async function outcome(promise) {
  await settle();
  return Promise.race([promise.then((value) => ({ value }), (error) => ({ error })), settle().then(() => "pending")]);
}
