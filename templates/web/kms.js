// kms.js: the client of KMS's protocol 2.0 (docs/protocol/2.0.md), one file for browsers and Node, without dependencies.
// docs/client-js.md tells how to use it, kms.d.ts has its types.
//
//   import { Client } from "./kms.js";
//   const kms = new Client({ server: "https://chat.example.com", tenant: "quest", token });
//   kms.on("message", (m) => show(m.channel, m.name, m.text));
//   kms.connect();
//   await kms.join("lobby", { history: 30 });
//   await kms.say("lobby", "こんにちは"); // resolves when it is in the log
//
// How it keeps its promises:
// - Of all connections there may be, exactly one is read. What a connection's replacement says is held back until it is subscribed
//   to everything; then it is read from its first word, and `seq` tells what had come over the old one already.
// - Of each channel one message is on its way at a time: whatever is refused, lost or repeated cannot change their order.

/** @typedef {import("./kms.js").Options} Options */
/** @typedef {import("./kms.js").JoinOptions} JoinOptions */
/** @typedef {import("./kms.js").Joined} Joined */
/** @typedef {import("./kms.js").Receipt} Receipt */
/** @typedef {import("./kms.js").Position} Position */
/** @typedef {import("./kms.js").State} State */
/** @typedef {import("./kms.js").Events} Events */
/** @typedef {import("./kms.js").Deprecation} Deprecation */
/** @typedef {{op: string, id: string, target?: string, text?: string}} Entry */

const firstWaitMs = 1_000;
const longestWaitMs = 30_000;
const openWithinMs = 15_000; // a handshake that takes longer is given up
const beatMs = 20_000; // two of silence mean that nobody is there: a browser would not notice for minutes
const lastAnswersMs = 3_000; // how long a connection that was replaced is kept for what it has not answered
const frameOps = 50; // of the 64 that a frame may hold
const remembered = 256; // ids of late messages, per channel without history
const maxFrame = 16 << 10; // unless `welcome` says otherwise

// What a close code means: a code for programs, words for people, and whether to come back.
const closings = new Map([
  [1002, ["bad_frame", "the server found a broken frame", false]],
  [1003, ["bad_frame", "the server takes text only", false]],
  [1007, ["bad_frame", "the server found text that is not UTF-8", false]],
  [1009, ["too_large", "a frame was too large", false]],
  [1011, ["internal", "the server had an internal error", true]],
  [1012, ["restart", "the server is restarting", true]],
  [1013, ["busy", "the server is too busy", true]],
  [4400, ["bad_frame", "too many bad frames", false]],
  [4401, ["bad_token", "the login was refused", true]], // with a new token, which is asked for
  [4403, ["forbidden", "shut out by an operator", false]],
  [4408, ["slow", "this client read too slowly", true]],
  [4410, ["silent", "no sign of life", true]],
]);
const lost = 1006;
const restart = 1012;
const unauthorized = 4401;
const silent = 4410;
const entries = new Set(["send", "edit", "del"]); // what goes into a channel, and is answered by an ack or a nack
const badTokens = ["bad_token", "token_expired"];

/** Why something was not done. `code` is for programs: the protocol's, or `left`, `stopped`. */
export class KmsError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{retry?: boolean, afterMs?: number, maybeSent?: boolean}} more
   */
  constructor(code, message, { retry = false, afterMs, maybeSent = false } = {}) {
    super(message);
    this.name = "KmsError";
    this.code = code;
    /** The same may work later, not before `afterMs`. */
    this.retry = retry;
    /** @type {number | undefined} */
    this.afterMs = afterMs;
    /** Of a `say`: others may see the message, its answer was lost. Saying it again with the same id settles it. */
    this.maybeSent = maybeSent;
  }
}

/** A user of a tenant, on one connection that is replaced as often as needed. */
export class Client {
  /** @type {State} */
  state = "idle";
  /** The version connected to; another after `choose` has chosen one. */
  version;
  /** @type {string | undefined} The user's id, once logged in. */
  user;
  /** @type {string | undefined} The user's display name, once logged in. */
  name;
  /** @type {Deprecation | undefined} Set while the operator says that the version will go away. */
  deprecated;

  /** @type {Options} */
  #options;
  #base; // of all URLs, without the scheme's first letters: "s://host" or "://host"
  /** @type {Map<keyof Events, Set<Function>>} */
  #listeners = new Map();
  /** @type {Map<string, Channel>} */
  #channels = new Map();
  /** @type {Wire | null} */
  #wire = null; // the one that is read
  /** @type {Wire | null} */
  #next = null; // takes over when it is subscribed to everything
  /** @type {Set<Wire>} */
  #retired = new Set(); // replaced, but still owing answers
  #run = 0; // another for each attempt: what was begun for an earlier one is void
  #tries = 0;
  #nextTries = 0;
  /** @type {any} */
  #timer;
  /** @type {any} */
  #nextTimer;
  /** @type {string | null} */
  #refusedToken = null;
  #maxFrame = maxFrame;

  /** @param {Options} options */
  constructor(options) {
    const { server = globalThis.location?.origin, WebSocket = globalThis.WebSocket } = options;
    if (!/^(http|ws)s?:\/\//.test(server ?? "")) throw new TypeError(`server is ${server}: want https://HOST`);
    if (!options.tenant) throw new TypeError("tenant is missing");
    if (!WebSocket) throw new TypeError("there is no WebSocket here: pass a constructor as WebSocket");
    this.#options = { ...options, WebSocket };
    this.#base = server.replace(/^(http|ws)/, "").replace(/\/+$/, "");
    this.version = options.version ?? "2.0";
  }

  /**
   * Calls `listener` at each such event; returns what takes it off again.
   * @template {keyof Events} K
   * @param {K} event
   * @param {(event: Events[K]) => void} listener
   * @returns {() => void}
   */
  on(event, listener) {
    const all = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, all.add(listener));
    return () => void all.delete(listener);
  }

  /** Connects, and from then on stays connected. While waiting to try again: tries at once. */
  connect() {
    if (this.state !== "idle" && this.state !== "stopped" && this.state !== "waiting") return;
    if (this.state !== "waiting") globalThis.addEventListener?.("online", this.#online);
    this.#tries = 0;
    this.#refusedToken = null;
    this.#dial();
  }

  /** Leaves for good; what is unanswered is rejected. `connect` begins again, in the same channels where they were left. */
  close() {
    if (this.state !== "stopped") this.#stop("closed", "closed by this program");
  }

  /**
   * Subscribes, now and after each reconnection. Resolves when subscribed; its first messages may be told before an `await` of it returns.
   * Rejects with a KmsError when that is not allowed. A second call for the same channel returns the first one's promise.
   * @param {string} channel
   * @param {JoinOptions} options
   * @returns {Promise<Joined>}
   */
  join(channel, { history = 0, from } = {}) {
    const known = this.#channels.get(channel);
    if (known) return known.joined;
    const c = new Channel(channel, history, from);
    this.#channels.set(channel, c);
    if (this.#wire?.opened) this.#wire.subscribe([c]);
    return c.joined;
  }

  /**
   * Unsubscribes: no event of the channel comes after this call. What was not answered is rejected. Resolves when the server has heard it.
   * @param {string} channel
   * @returns {Promise<void>}
   */
  async leave(channel) {
    const c = this.#channels.get(channel);
    if (!c) return;
    this.#forget(c, new KmsError("left", "the channel was left"));
    if (this.#wire?.subscribed.get(channel) === c) await this.#wire.unsubscribe(channel);
  }

  /**
   * Sends a message, now or when there is a connection, as often as it takes. Resolves when the server has it: with `logged` true it is
   * in the channel's log for good. Messages of one channel are sent in the order of the calls.
   * @param {string} channel
   * @param {string} text
   * @param {{id?: string}} options an id made with `ulid`, to know one's own message before the answer
   * @returns {Promise<Receipt>}
   */
  say(channel, text, { id = ulid() } = {}) {
    return this.#put(channel, { op: "send", id, text: String(text) });
  }

  /**
   * Gives a message of this user another text, as `say` sends one. Resolves when it is so for everyone.
   * @param {string} channel
   * @param {string} target the message's id
   * @param {string} text
   * @param {{id?: string}} options the edit's own id
   * @returns {Promise<Receipt>}
   */
  edit(channel, target, text, { id = ulid() } = {}) {
    return this.#put(channel, { op: "edit", id, target, text: String(text) });
  }

  /**
   * Deletes a message of this user, as `say` sends one.
   * @param {string} channel
   * @param {string} target the message's id
   * @param {{id?: string}} options the deletion's own id
   * @returns {Promise<Receipt>}
   */
  remove(channel, target, { id = ulid() } = {}) {
    return this.#put(channel, { op: "del", id, target });
  }

  /**
   * Where a channel stands: keep it, and give it to `join` as `from` to go on there after a restart of this program.
   * @param {string} channel
   * @returns {Position | undefined}
   */
  position(channel) {
    const at = this.#channels.get(channel)?.position;
    return at ? { ...at } : undefined;
  }

  // --- connecting ---

  #online = () => {
    if (this.state === "waiting") this.connect();
  };

  async #dial() {
    const run = ++this.#run;
    clearTimeout(this.#timer);
    this.#become("connecting");
    let token;
    try {
      token = await this.#token();
    } catch (err) {
      if (run === this.#run) this.#wait("no_token", `there is no token: ${err?.message ?? err}`);
      return;
    }
    if (run !== this.#run) return;
    if (token === this.#refusedToken) this.#stop("bad_token", "the server does not take the token");
    else this.#begin(token);
  }

  #begin(token) {
    try {
      this.#wire = this.#open(token);
    } catch (err) {
      this.#stop("bad_url", err.message); // such as a page of https that may not connect to ws
    }
  }

  async #token() {
    const { token } = this.#options;
    return typeof token === "function" ? token() : token;
  }

  /** @param {string} token */
  #open(token) {
    const { tenant, user, WebSocket } = this.#options;
    const hint = user ? `?u=${encodeURIComponent(user)}` : "";
    const url = `ws${this.#base}/ua/${this.version}/${tenant}${hint}`;
    return new Wire(WebSocket, url, token, {
      opened: (wire) => wire.greet([...this.#channels.values()]),
      ops: (ops, wire) => this.#receive(ops, wire),
      ended: (end, wire) => this.#ended(end, wire),
    });
  }

  /** Ends what is under way, without a word to the listeners. */
  #drop() {
    this.#run++;
    clearTimeout(this.#timer);
    clearTimeout(this.#nextTimer);
    for (const wire of [this.#wire, this.#next, ...this.#retired]) {
      wire?.close();
      this.#unanswered(wire);
    }
    this.#wire = this.#next = null;
    this.#retired.clear();
    for (const c of this.#channels.values()) c.pause();
  }

  #wait(code, reason, { after = 0, soon = false } = {}) {
    this.#drop();
    const wait = after + (soon ? Math.random() * firstWaitMs : backoff(this.#tries++));
    this.#become("waiting", { code, reason, retryAt: Date.now() + wait });
    this.#timer = setTimeout(() => this.#dial(), wait);
  }

  #stop(code, reason, live) {
    this.#drop();
    globalThis.removeEventListener?.("online", this.#online);
    for (const c of [...this.#channels.values()]) {
      if (!c.wasJoined) this.#forget(c, new KmsError("stopped", reason));
      else c.giveBack("stopped", reason);
    }
    this.#become("stopped", { code, reason, versions: live });
  }

  /** @param {State} state */
  #become(state, more = {}) {
    const previous = this.state;
    if (state === previous && state !== "moving") return;
    this.state = state;
    this.#emit("state", { state, previous, ...more });
  }

  #ended({ opened, code, reason }, wire) {
    this.#unanswered(wire);
    if (this.#retired.delete(wire)) return this.#pumpAll();
    if (wire === this.#next) return opened ? this.#giveUpNext() : this.#nextFailed();
    if (wire !== this.#wire) return;
    const { told } = wire;
    const [known, words, back] = closings.get(code) ?? ["lost", "the connection was lost", true];
    const word = told?.code ?? (/^[a-z_]+$/.test(reason) ? reason : known);
    const why = told?.message ?? words;
    if (code === unauthorized ? told || wire.welcomed : badTokens.includes(told?.code)) {
      if (typeof this.#options.token !== "function") return this.#stop(word, why);
      this.#refusedToken = wire.token;
    } else if (!back || told?.retry === false) {
      return this.#stop(word, why);
    }
    this.#wire = null;
    for (const c of this.#channels.values()) c.pause();
    if (this.#next) this.#promote(this.#next); // it goes on where the old one stopped
    else if (opened) this.#wait(word, why, { after: told?.after_ms, soon: code === restart });
    else this.#handshakeFailed();
  }

  async #handshakeFailed() {
    const run = ++this.#run;
    const { version } = this;
    const gone = await this.#goneFrom(version);
    if (run !== this.#run) return; // closed meanwhile
    if (!gone) this.#wait("unreachable", "the server cannot be reached");
    else if (gone.next) this.#wait("version_gone", `version ${version} is gone, ${gone.next} is there`, { soon: true });
    else this.#stop("version_gone", `version ${version} is not served here`, gone.live);
  }

  /** A browser does not tell why a handshake failed. Only a version that is gone will not get better: tells so, and takes another. */
  async #goneFrom(version) {
    const live = await this.#fetchVersions();
    if (!live || live.includes(version) || this.version !== version) return null;
    const { choose } = this.#options;
    let next;
    if (choose) this.#call(() => (next = choose({ version, live: [...live] })));
    if (!live.includes(next)) next = undefined;
    else this.version = next;
    this.#emit("versions", { version, live, next });
    return { live, next };
  }

  /** @returns {Promise<string[] | null>} null when nobody answers: then nothing is known. */
  async #fetchVersions() {
    const { fetch = globalThis.fetch } = this.#options;
    try {
      const answer = await fetch(`http${this.#base}/versions`, { cache: "no-store", signal: /** @type {any} */ (AbortSignal).timeout(openWithinMs) });
      return answer.ok ? (await answer.json()).versions.map((v) => v.version) : null;
    } catch {
      return null;
    }
  }

  // --- moving to another connection before the old one is let go ---

  async #replace() {
    const old = this.#wire;
    let token;
    try {
      token = await this.#token();
    } catch {
      if (this.#wire === old) this.#giveUpNext();
      return;
    }
    if (!old || this.#wire !== old || this.#next) return;
    this.#next = this.#open(token);
  }

  /** A version that is retired asks us to move, and there is nowhere to move to but another version. */
  async #nextFailed() {
    const old = this.#wire;
    this.#next = null;
    const gone = await this.#goneFrom(this.version);
    if (!old || this.#wire !== old || this.#next) return;
    if (gone?.next) this.#replace();
    else this.#giveUpNext();
  }

  /** The old connection works for as long as it is allowed to. */
  #giveUpNext() {
    this.#next?.close();
    this.#next = null;
    clearTimeout(this.#nextTimer);
    this.#nextTimer = setTimeout(() => this.#replace(), backoff(this.#nextTries++));
  }

  /** @param {Wire} next */
  #promote(next) {
    const old = this.#wire;
    clearTimeout(this.#nextTimer);
    this.#next = null;
    this.#wire = next;
    for (const c of this.#channels.values()) c.pause();
    if (old) this.#retire(old);
    if (!next.ready) this.#become("connecting");
    for (const op of next.held.splice(0)) {
      if (this.#wire !== next) return;
      this.#take(op, next);
    }
    this.#settle(next);
    if (next.opened && this.#wire === next) this.#reconcile(next);
  }

  /** What was joined and left while the connection was being made. */
  #reconcile(wire) {
    for (const [name, c] of wire.subscribed) {
      if (this.#channels.get(name) !== c) wire.unsubscribe(name);
    }
    wire.subscribe([...this.#channels.values()].filter((c) => wire.subscribed.get(c.name) !== c));
  }

  /** A message that was sent over the old connection is answered there; sent again, one without history could appear twice. */
  #retire(old) {
    this.#retired.add(old);
    old.letGo = setTimeout(() => this.#letGo(old), lastAnswersMs);
    this.#letGoIfDone(old);
  }

  #letGoIfDone(old) {
    if (this.#retired.has(old) && ![...this.#channels.values()].some((c) => c.queue[0]?.wire === old)) this.#letGo(old);
  }

  #letGo(old) {
    if (!this.#retired.delete(old)) return;
    old.close();
    this.#unanswered(old);
    this.#pumpAll();
  }

  // --- what the server says ---

  #receive(ops, wire) {
    for (const op of ops) {
      wire.note(op);
      if (wire === this.#next) this.#hold(op, wire);
      else if (wire === this.#wire) this.#take(op, wire);
      else if (op.op === "ack" || (op.op === "nack" && entries.has(op.of))) this.#answer(op);
    }
    if (wire === this.#wire) this.#settle(wire);
    this.#letGoIfDone(wire);
  }

  #hold(op, wire) {
    wire.held.push(op);
    if (op.op === "nack" && (op.of === "hello" || (op.of === "sub" && op.retry))) this.#giveUpNext();
    else if (wire.ready) this.#promote(wire);
  }

  /** @param {Deprecation | undefined} now */
  #setDeprecated(now) {
    if (JSON.stringify(now) === JSON.stringify(this.deprecated)) return;
    this.deprecated = now;
    this.#emit("deprecated", { deprecated: now });
  }

  #settle(wire) {
    if (!wire.ready || this.#wire !== wire || (this.state === "moving" && wire.drained)) return;
    this.#tries = 0;
    this.#become("connected");
  }

  #take(op, wire) {
    const c = this.#channels.get(op.ch);
    const mine = c && wire.subscribed.get(op.ch) === c ? c : null;
    switch (op.op) {
      case "welcome":
        this.user = op.user;
        this.name = op.name;
        this.#maxFrame = op.max_frame ?? maxFrame;
        this.#setDeprecated(op.deprecated);
        return;
      case "version":
        this.#setDeprecated(op.deprecated);
        return;
      case "subbed":
        if (mine && !wire.asked.has(op.ch)) this.#subbed(op, mine, wire); // else a later answer counts
        return;
      case "unsubbed":
        return;
      case "ack":
        return this.#answer(op);
      case "nack":
        if (entries.has(op.of)) this.#answer(op);
        else if (op.of === "sub" && mine && !wire.asked.has(op.ch)) this.#notSubbed(op, mine, wire);
        return;
      case "evicted":
        if (mine) this.#evicted(mine, op.code, op.code === "not_member" ? "no longer a member of this channel" : "the channel is gone");
        return;
      case "presence":
        if (mine?.subbed) this.#emit("presence", { channel: op.ch, event: op.event, user: op.user, name: op.name, at: op.at });
        return;
      case "drain":
        wire.drained = true;
        this.#nextTries = 0;
        this.#become("moving", { code: "drain", reason: op.message, graceMs: op.grace_ms });
        if (!this.#next) this.#replace();
        return;
      default:
        if (mine?.subbed && mine.isNews(op)) this.#deliver(op);
    }
  }

  #deliver(op) {
    const { op: kind, ch: channel, ...rest } = op;
    if (kind === "msg") this.#emit("message", { channel, ...rest, own: op.user === this.user, past: this.#isPast(op) });
    else if (kind === "sys") this.#emit("system", { channel, ...rest, past: this.#isPast(op) });
    else if (kind === "edit" && op.text) this.#emit("edit", { channel, ...rest });
    else if (kind === "del") this.#emit("delete", { channel, ...rest });
  }

  #isPast(op) {
    return op.seq <= (this.#channels.get(op.ch)?.pastEnd ?? 0);
  }

  /** @param {Channel} c @param {Wire} wire */
  #subbed(op, c, wire) {
    if (op.logged === false) {
      c.position = null;
    } else if (op.resumed === undefined) {
      c.position = { epoch: op.epoch, seq: op.seq };
      if (c.history > 0 && op.seq >= op.first) return this.#readPast(op, c, wire);
    } else if (!op.resumed) {
      c.position = { epoch: op.epoch, seq: op.seq };
      this.#emit("truncated", { channel: c.name, epoch: op.epoch, first: op.first, last: op.seq });
      if (this.#channels.get(c.name) !== c) return;
    }
    c.subbed = c.wasJoined = true;
    c.history = 0;
    c.tries = 0;
    const { epoch, seq, first } = op;
    c.resolve(op.logged === false ? { channel: c.name, logged: false } : { channel: c.name, logged: true, epoch, seq, first });
    this.#pump(c);
  }

  /** There is no asking for the past. Resuming from a little before the newest brings the end of it, in its place. */
  #readPast(op, c, wire) {
    c.pastEnd = op.seq;
    c.position = { epoch: op.epoch, seq: Math.max(op.first - 1, op.seq - c.history) };
    c.history = 0;
    wire.subscribe([c]);
  }

  #notSubbed(op, c, wire) {
    if (!op.retry) return this.#evicted(c, op.code, op.message);
    wire.subscribed.delete(c.name);
    c.again = setTimeout(() => {
      if (this.#wire === wire) wire.subscribe([c]);
    }, op.after_ms ?? backoff(c.tries++));
  }

  #evicted(c, code, reason) {
    this.#wire?.subscribed.delete(c.name);
    this.#forget(c, new KmsError(code, reason));
    if (c.wasJoined) this.#emit("evicted", { channel: c.name, code, reason });
  }

  #forget(c, err) {
    this.#channels.delete(c.name);
    c.pause();
    c.reject(err); // a promise that has resolved does not mind
    c.giveBack(err.code, err.message);
  }

  // --- what we say ---

  #pumpAll() {
    for (const c of this.#channels.values()) this.#pump(c);
  }

  /**
   * @param {string} channel
   * @param {Entry} entry
   * @returns {Promise<Receipt>}
   */
  #put(channel, entry) {
    return new Promise((resolve, reject) => {
      const c = this.#channels.get(channel);
      if (!c) throw new KmsError("not_joined", `join ${channel} first`);
      const size = new TextEncoder().encode(JSON.stringify(entry)).length + 150; // beside it: the channel
      if (size > this.#maxFrame) throw new KmsError("too_large", "the text is too long");
      c.queue.push({ id: entry.id, entry, resolve, reject, wire: null, tried: false, open: false });
      this.#pump(c);
    });
  }

  /** @param {Channel} c */
  #pump(c) {
    const m = c.queue[0];
    if (!m || m.wire || c.resend || !c.subbed || !this.#wire) return;
    m.wire = this.#wire;
    m.open = true;
    m.wire.send([{ ...m.entry, ch: c.name, ...(m.tried && { retry: true }) }]);
    m.tried = true;
  }

  #unanswered(wire) {
    for (const { queue } of this.#channels.values()) {
      if (wire && queue[0]?.wire === wire) queue[0].wire = null;
    }
  }

  #answer(op) {
    const c = this.#channels.get(op.ch);
    const m = c?.queue[0];
    if (m?.id !== op.id) return; // another connection had answered it already
    if (op.op === "ack") {
      this.#shift(c).resolve({ id: m.id, channel: c.name, at: op.at, logged: op.logged, epoch: op.epoch, seq: op.seq });
      return;
    }
    const open = ["busy", "unavailable", "internal"].includes(op.code);
    if (!op.retry || op.after_ms > (this.#options.patienceMs ?? 10_000)) {
      const more = { retry: op.retry, afterMs: op.after_ms, maybeSent: open };
      this.#shift(c).reject(new KmsError(op.code, op.message, more));
      return;
    }
    m.wire = null;
    m.open = open;
    const wait = op.after_ms ?? backoff(c.tries++);
    c.resend = setTimeout(() => {
      c.resend = 0;
      this.#pump(c);
    }, wait);
    this.#emit("delay", { channel: c.name, id: m.id, code: op.code, reason: op.message, retryAt: Date.now() + wait });
  }

  /** Takes the first message off and sends the one behind it. */
  #shift(c) {
    const m = c.queue.shift();
    c.tries = 0;
    this.#pump(c);
    return m;
  }

  // --- listeners ---

  #emit(event, value) {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) this.#call(() => listener(value));
  }

  /** What somebody else's code throws is theirs to hear, and must not stop us between two messages. */
  #call(f) {
    try {
      f();
    } catch (err) {
      queueMicrotask(() => {
        throw err;
      });
    }
  }
}

/** What we know of a channel we want to be in. */
class Channel {
  subbed = false; // on the connection that is read
  wasJoined = false;
  pastEnd = 0; // what is not newer was said before we came
  /** @type {{id: string, entry: Entry, resolve: Function, reject: Function, wire: Wire | null, tried: boolean, open: boolean}[]} */
  queue = []; // only the first is on its way: over `wire`; `open`: it may have arrived
  tries = 0;
  /** @type {any} */
  again; // the timer of a sub to be repeated
  /** @type {any} */
  resend; // the timer of a send to be repeated
  #seen = new Set();

  /** @param {string} name @param {number} history @param {Position} [from] */
  constructor(name, history, from) {
    this.name = name;
    this.history = from ? 0 : history;
    /** @type {Position | null} */
    this.position = from ? { epoch: from.epoch, seq: from.seq } : null;
    /** @type {Promise<Joined>} */
    this.joined = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  subscription() {
    const sub = { op: "sub", ch: this.name };
    return this.position ? { ...sub, resume: { ...this.position } } : sub;
  }

  /** Drops what is known already; else the position moves on. */
  isNews(op) {
    if (op.seq === undefined) {
      if (this.#seen.has(op.id)) return false;
      this.#seen.add(op.id);
      if (this.#seen.size > remembered) this.#seen.delete(this.#seen.values().next().value);
    } else if (this.position) {
      if (op.seq <= this.position.seq) return false;
      this.position.seq = op.seq;
    }
    return true;
  }

  pause() {
    this.subbed = false;
    clearTimeout(this.again);
    clearTimeout(this.resend);
    this.resend = 0;
  }

  giveBack(code, reason) {
    for (const m of this.queue.splice(0)) m.reject(new KmsError(code, reason, { maybeSent: m.open }));
  }
}

/** One WebSocket: operations in and out, and exactly one end. */
class Wire {
  opened = false;
  welcomed = false;
  drained = false; // the server asked us to move
  told = null; // the server's no to our login
  /** @type {Map<string, Channel>} */
  subscribed = new Map(); // what we asked for
  /** @type {Map<string, number>} */
  asked = new Map(); // subs without an answer
  held = []; // what came before its turn
  /** @type {any} */
  letGo; // the timer of one that was replaced
  #leaving = []; // {name, resolve}
  #socket;
  #on;
  #beat;
  #opening;
  #heard = false;
  #asking = false;

  constructor(WebSocket, url, token, on) {
    this.token = token;
    this.#on = on;
    const socket = (this.#socket = new WebSocket(url));
    this.#opening = setTimeout(() => this.#give(lost), openWithinMs);
    socket.onopen = () => this.#open();
    socket.onmessage = (event) => this.#message(event.data);
    socket.onclose = (event) => this.#end(event.code, event.reason);
    socket.onerror = () => {}; // a close follows; without this, Node's ws would throw
  }

  /** Is everything answered that was asked for at the beginning? */
  get ready() {
    return this.welcomed && this.asked.size === 0;
  }

  greet(channels) {
    this.send([{ op: "hello", token: this.token }]);
    this.subscribe(channels);
  }

  subscribe(channels) {
    for (const c of channels) {
      this.subscribed.set(c.name, c);
      this.asked.set(c.name, (this.asked.get(c.name) ?? 0) + 1);
    }
    this.send(channels.map((c) => c.subscription()));
  }

  unsubscribe(name) {
    this.subscribed.delete(name);
    this.send([{ op: "unsub", ch: name }]);
    return new Promise((resolve) => this.#leaving.push({ name, resolve }));
  }

  /** Does nothing while the socket is not open: whoever sends learns that from the end. */
  send(ops) {
    for (let i = 0; i < ops.length; i += frameOps) {
      if (this.#socket.readyState === 1) this.#socket.send(JSON.stringify(ops.slice(i, i + frameOps)));
    }
  }

  /** Keeps the books of what was asked and answered. */
  note(op) {
    if (op.op === "welcome") this.welcomed = true;
    else if (op.op === "nack" && op.of === "hello") this.told = op;
    else if (op.op === "subbed" || (op.op === "nack" && op.of === "sub")) this.#answered(op.ch);
    else if (op.op === "unsubbed") this.#left(op.ch);
  }

  /** Ends the connection on our side; `ended` is not called any more. */
  close() {
    this.#let();
    this.#socket.close(1000);
  }

  #answered(name) {
    const left = (this.asked.get(name) ?? 1) - 1;
    if (left > 0) this.asked.set(name, left);
    else this.asked.delete(name);
  }

  #left(name) {
    const i = this.#leaving.findIndex((l) => l.name === name);
    if (i >= 0) this.#leaving.splice(i, 1)[0].resolve();
  }

  #open() {
    clearTimeout(this.#opening);
    this.opened = this.#heard = true;
    this.#beat = setInterval(() => this.#listen(), beatMs);
    this.#on.opened(this);
  }

  #message(data) {
    this.#heard = true;
    let ops;
    try {
      ops = JSON.parse(data);
    } catch {
      return; // what we cannot read is no reason to leave
    }
    if (Array.isArray(ops)) this.#on.ops(ops.filter((op) => typeof op?.op === "string"), this);
  }

  #listen() {
    if (!this.#heard && this.#asking) return this.#give(silent);
    this.#asking = !this.#heard;
    this.#heard = false;
    if (this.#asking) this.send([{ op: "ping" }]);
  }

  /** Gives up a socket that does not end by itself. */
  #give(code) {
    this.#socket.close();
    this.#end(code, "");
  }

  #end(code, reason) {
    this.#let();
    this.#on.ended({ opened: this.opened, code, reason }, this);
  }

  /** Lets go of the socket: nothing of it is heard any more, so it cannot end twice. */
  #let() {
    clearInterval(this.#beat);
    clearTimeout(this.#opening);
    clearTimeout(this.letGo);
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    for (const { resolve } of this.#leaving.splice(0)) resolve();
  }
}

/** The n-th wait: doubling, and between half and all of it at random, or everybody whom one crash cut off would come back in step. */
function backoff(n) {
  return Math.min(firstWaitMs * 2 ** n, longestWaitMs) * (0.5 + Math.random() / 2);
}

const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/**
 * A new message id: 48 bits of milliseconds and 80 random ones in Crockford's base 32.
 * @param {number} [now]
 * @returns {string}
 */
export function ulid(now = Date.now()) {
  let time = "";
  for (let i = 0; i < 10; i++) {
    time = digits[now % 32] + time;
    now = Math.floor(now / 32);
  }
  const bytes = new Uint8Array(16); // five of each byte's eight bits are used
  if (globalThis.crypto) globalThis.crypto.getRandomValues(bytes);
  else bytes.forEach((_, i) => (bytes[i] = Math.random() * 256)); // Node 18 keeps it elsewhere; an id is no secret
  return time + Array.from(bytes, (byte) => digits[byte & 31]).join("");
}
