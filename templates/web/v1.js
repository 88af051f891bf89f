// The client of protocol 1.0 (docs/protocol/1.0.md): one JSON object a frame, no resume, no retry.

import { Refusal, Session } from "./session.js";

export class V1 extends Session {
  pingFrame = { type: "ping" };
  #unanswered = new Map(); // our id -> {resolve, reject}
  #count = 0;
  #wasIn = false;

  greet(wire) {
    wire.send({ type: "login", token: this.options.token });
  }

  receive(frame, wire) {
    if (wire === this.wire) this.#handlers[frame.type]?.(frame);
  }

  send(text) {
    return new Promise((resolve, reject) => {
      if (!this.ready) return reject(new Refusal("not_connected", "not connected; 1.0 does not send later by itself"));
      const id = `c${++this.#count}`;
      this.#unanswered.set(id, { resolve, reject });
      this.wire.send({ type: "say", channel: this.options.channel, id, text });
    });
  }

  // A `say` cut off by a loss may or may not have happened, and saying it again may say it twice: only a person can decide.
  left() {
    for (const { reject } of this.#unanswered.values()) {
      reject(new Refusal("unknown", "the connection ended before the answer: it may or may not have been sent"));
    }
    this.#unanswered.clear();
  }

  #handlers = {
    logged_in: (frame) => {
      this.me = { user: frame.user, name: frame.name };
      this.wire.send({ type: "join", channel: this.options.channel });
    },
    joined: () => {
      const lack = this.#wasIn ? "what was said in between is missing: 1.0 has no resume" : "what is said from now on is shown: 1.0 has no history";
      this.on.note(lack);
      this.#wasIn = true;
      this.joined();
    },
    message: (frame) => this.on.message({ ...frame, own: frame.user === this.me?.user }),
    system: (frame) => this.on.system(frame),
    join: (frame) => this.on.presence({ ...frame, event: "join" }),
    leave: (frame) => this.on.presence({ ...frame, event: "leave" }),
    said: (frame) => this.#settle(frame.id)?.resolve({ id: frame.message }),
    error: (frame) => this.#refused(frame),
    removed: (frame) => this.refuse(frame.code === "not_member" ? "no longer a member of this channel" : "the channel is gone"),
    closing: (frame) => {
      this.told = { message: frame.message || frame.code, retry: frame.reconnect === true, after: frame.after_ms };
    },
  };

  #refused(error) {
    if (error.request === "say") {
      this.#settle(error.id)?.reject(new Refusal(error.code, error.message));
    } else if (error.request === "login") {
      this.answer(error); // a close follows
    } else if (error.request === "join") {
      if (error.retry) this.comeBack(error.message, error.after_ms);
      else this.refuse(error.message);
    }
  }

  #settle(id) {
    const waiting = this.#unanswered.get(id);
    this.#unanswered.delete(id);
    return waiting;
  }
}
