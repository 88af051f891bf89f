// The client of protocol 2.0 (docs/protocol/2.0.md): batches of operations, resume by (epoch, seq), sending again under the same
// id until it is answered, and moving to a new connection on `drain` before the old one is let go.

import { Refusal, Session } from "./session.js";
import { ulid } from "./ulid.js";

const historyLength = 30; // messages from before that a page just opened shows
const resendMs = 1_000; // when the server says "again" but not when
const patienceMs = 5_000; // a refusal that holds longer than this is told, not waited for

export class V2 extends Session {
  pingFrame = [{ op: "ping" }];
  #position = null; // {epoch, seq} of the last operation shown
  #reading = false; // the past was asked for and begins with the next `subbed`
  #pastEnd = 0; // what is not newer than this was said before the page was opened
  #next = null; // the connection that takes over, while a drain is on
  #nextTimer = 0;
  #queue = []; // {id, text, resolve, reject, sent}; only the first is on its way, which keeps our order through every retry
  #resend = 0;
  #seen = []; // ids of late, for channels without positions

  greet(wire) {
    wire.send([{ op: "hello", token: this.options.token }, this.#subscription()]);
  }

  receive(ops, wire) {
    if (!Array.isArray(ops)) return;
    for (const op of ops) {
      if (wire === this.#next) this.#nextSays(op);
      else if (wire === this.wire) this.#handlers[op.op]?.(op);
    }
  }

  ended(end, wire) {
    if (wire === this.#next) {
      this.#next = null;
      this.#tryNext(resendMs + Math.random() * resendMs); // the old connection goes on as long as it is allowed to
      return;
    }
    super.ended(end, wire);
  }

  // send settles when the server has committed or refused the message, however many connections that takes.
  send(text) {
    return new Promise((resolve, reject) => {
      this.#queue.push({ id: ulid(), text, resolve, reject, sent: false });
      if (this.#queue.length === 1) this.#sendFirst();
    });
  }

  left() {
    clearTimeout(this.#resend);
    this.#dropNext();
    if (this.#queue[0]) this.on.waiting("waiting for the connection");
  }

  stop() {
    super.stop();
    this.#giveBack();
  }

  refuse(reason, gone) {
    super.refuse(reason, gone);
    this.#giveBack();
  }

  #giveBack() {
    const lost = "there is no connection; what was on its way may or may not have been sent";
    for (const m of this.#queue.splice(0)) m.reject(new Refusal("not_connected", m.sent ? lost : "not sent: there is no connection"));
  }

  #handlers = {
    welcome: (op) => {
      this.me = { user: op.user, name: op.name };
    },
    subbed: (op) => this.#subscribed(op),
    msg: (op) => this.#inOrder(op, () => this.on.message({ ...op, own: op.user === this.me?.user, past: op.seq <= this.#pastEnd })),
    sys: (op) => this.#inOrder(op, () => this.on.system({ ...op, past: op.seq <= this.#pastEnd })),
    edit: (op) => this.#inOrder(op, () => this.on.edited(op)),
    del: (op) => this.#inOrder(op, () => this.on.deleted(op)),
    presence: (op) => this.on.presence(op),
    ack: (op) => this.#settle(op.id)?.resolve({ id: op.id }),
    nack: (op) => this.#refused(op),
    evicted: (op) => this.refuse(op.code === "not_member" ? "no longer a member of this channel" : "the channel is gone"),
    drain: () => this.#tryNext(0),
  };

  #subscription() {
    const sub = { op: "sub", ch: this.options.channel };
    return this.#position ? { ...sub, resume: this.#position } : sub;
  }

  #subscribed(op) {
    this.#reading = this.#readPast(op);
    if (this.#reading) return;
    if (op.resumed === false) this.on.note("some of what was said in between is no longer kept");
    if (op.resumed !== true) this.#takePosition(op);
    this.joined();
    this.#sendFirst();
  }

  // A page just opened has no position yet. It resumes from a little before the newest and so gets the end of what was said.
  #readPast(op) {
    if (this.#position || op.resumed !== undefined || op.logged === false || op.seq < op.first) return false;
    this.#pastEnd = op.seq;
    this.#position = { epoch: op.epoch, seq: Math.max(op.first - 1, op.seq - historyLength) };
    this.wire.send([this.#subscription()]);
    return true;
  }

  #takePosition(op) {
    this.#position = op.logged === false ? null : { epoch: op.epoch, seq: op.seq };
  }

  // What came over two connections, or is known already, is shown once.
  #inOrder(op, show) {
    if (this.#reading) return; // it comes again, in its place
    if (op.seq === undefined) {
      if (this.#seen.includes(op.id)) return;
      this.#seen = [...this.#seen.slice(-63), op.id];
    } else {
      if (op.seq <= this.#position?.seq) return;
      if (this.#position) this.#position.seq = op.seq;
    }
    show();
  }

  #sendFirst() {
    const first = this.#queue[0];
    if (!first || !this.ready) return;
    const op = { op: "send", ch: this.options.channel, id: first.id, text: first.text };
    this.wire.send([first.sent ? { ...op, retry: true } : op]);
    first.sent = true;
  }

  #settle(id) {
    if (this.#queue[0]?.id !== id) return undefined; // the other connection had answered it already
    const first = this.#queue.shift();
    clearTimeout(this.#resend);
    this.#sendFirst();
    return first;
  }

  #refused(nack) {
    if (nack.of === "hello") this.answer(nack); // a close follows
    else if (nack.of === "sub" && nack.retry) this.comeBack(nack.message, nack.after_ms);
    else if (nack.of === "sub") this.refuse(nack.message);
    else if (nack.of === "send") this.#sendRefused(nack);
  }

  #sendRefused(nack) {
    if (!nack.retry || nack.after_ms > patienceMs) {
      this.#settle(nack.id)?.reject(new Refusal(nack.code, nack.message));
    } else if (this.#queue[0]?.id === nack.id) {
      this.on.waiting(nack.message);
      clearTimeout(this.#resend);
      this.#resend = setTimeout(() => this.#sendFirst(), nack.after_ms ?? resendMs);
    }
  }

  #tryNext(wait) {
    clearTimeout(this.#nextTimer);
    this.#nextTimer = setTimeout(() => {
      if (this.wire && !this.#next) this.#next = this.open();
    }, wait);
  }

  // The new connection takes over when it is subscribed: what comes over it then goes on where the old one stopped.
  #nextSays(op) {
    if (op.op !== "subbed") return;
    const old = this.wire;
    this.wire = this.#next;
    this.#next = null;
    old.close();
    this.#subscribed(op);
  }

  #dropNext() {
    clearTimeout(this.#nextTimer);
    const next = this.#next;
    this.#next = null;
    next?.close();
  }
}
