// A session keeps a client in its channel: it connects, says how it stands, and comes back after a loss. v1.js fills in what its
// protocol does; v2.js has all of it from kms.js. The page uses both in one way:
//
//   const session = new V2({ url, version, tenant, user, token, channel }, on);
//   session.start(); session.retryNow(); session.stop();
//   await session.send(text, session.newId())   // { id } once the server has accepted it; rejects with a Refusal
//
// on.state({name, reason, until, gone})   connecting | connected | moving | reconnecting | refused
// on.message({id, user, name, text, at, own, past}), on.system(same), on.presence({event, user, name, at})
// on.edited({target, text}), on.deleted({target}), on.note(text), on.waiting(reason)

import { Wire, whyNot } from "./wire.js";

const firstWaitMs = 1_000;
const longestWaitMs = 30_000;
const restarting = 1012;

// With these coming back as we are would only be refused again.
const finalCodes = new Map([
  [1002, "the server found a broken frame"],
  [1003, "the server takes text only"],
  [1007, "the server found text that is not UTF-8"],
  [1009, "the message was too large"],
  [4400, "too many bad frames"],
  [4401, "the login was refused"],
  [4403, "shut out by an operator"],
]);

const passingCodes = new Map([
  [1011, "the server had an internal error"],
  [1012, "the server is restarting"],
  [1013, "the server is too busy"],
  [4408, "this page read too slowly"],
  [4410, "no sign of life"],
]);

// Refusal is why a message was not sent.
export class Refusal extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export class Session {
  keepsMessages = false;
  wire = null;
  ready = false; // in the channel on this.wire
  me = null; // {user, name} after login
  told = null; // the server's last words before it closes: {message, retry, after}
  #tries = 0;
  #timer = 0;
  #running = false;

  constructor(options, on) {
    this.options = options;
    this.on = on;
  }

  start() {
    this.#running = true;
    this.#connect();
  }

  stop() {
    this.#running = false;
    this.#leave();
  }

  retryNow() {
    this.#tries = 0;
    this.start();
  }

  // newId is the id of a message that is to be sent, where the client makes it.
  newId() {
    return undefined;
  }

  // open makes a connection; what it says goes to greet, receive and ended of the protocol.
  open() {
    return new Wire(this.options.url, {
      opened: (wire) => this.greet(wire),
      frame: (frame, wire) => this.receive(frame, wire),
      ended: (end, wire) => this.ended(end, wire),
    }, this.pingFrame);
  }

  // joined is told by the protocol when it is in the channel.
  joined() {
    this.#tries = 0;
    this.told = null;
    this.ready = true;
    this.on.state({ name: "connected" });
  }

  // give up until somebody asks again.
  refuse(reason, gone = false) {
    this.#leave();
    this.on.state({ name: "refused", reason, gone });
  }

  // answer takes the server's no to login or join: the close that may follow, or we ourselves, act on it.
  answer(no) {
    this.told = { message: no.message || no.code, retry: no.retry === true, after: no.after_ms };
  }

  comeBack(reason, after = 0, soon = false) {
    this.#leave();
    const wait = Math.max(after, 0) + (soon ? Math.random() * firstWaitMs : this.#backoff());
    this.on.state({ name: "reconnecting", reason, until: Date.now() + wait });
    this.#timer = setTimeout(() => this.#connect(), wait);
  }

  async ended(end, wire) {
    if (wire !== this.wire) return;
    this.#leave();
    const { told } = this;
    if (!end.opened) return this.#handshakeFailed();
    if (finalCodes.has(end.code) || told?.retry === false) {
      return this.refuse(told?.message || end.reason || finalCodes.get(end.code) || "the server ended the session");
    }
    const reason = told?.message || passingCodes.get(end.code) || "the connection was lost";
    this.comeBack(reason, told?.after, end.code === restarting);
  }

  #connect() {
    this.#leave();
    this.told = null;
    this.on.state({ name: "connecting" });
    this.wire = this.open();
  }

  #leave() {
    clearTimeout(this.#timer);
    const { wire } = this;
    this.wire = null;
    this.ready = false;
    wire?.close();
    this.left();
  }

  async #handshakeFailed() {
    const why = await whyNot(this.options.url);
    if (!this.#running || this.wire) return; // stopped, or asked to retry, meanwhile
    if (why.gone) this.refuse(why.reason, true);
    else this.comeBack(why.reason);
  }

  // Between half and all of it at random, or everybody whom one crash cut off would come back in step.
  #backoff() {
    const wait = Math.min(firstWaitMs * 2 ** this.#tries++, longestWaitMs);
    return wait * (0.5 + Math.random() / 2);
  }
}
