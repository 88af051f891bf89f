// The client of protocol 2.0: kms.js does the work, this tells the page of it as session.js asks.

import { Client, ulid } from "./kms.js";
import { Refusal } from "./session.js";
import { whyNot } from "./wire.js";

const historyLength = 30; // messages from before that a page just opened shows
const names = { connecting: "connecting", connected: "connected", moving: "moving", waiting: "reconnecting", stopped: "refused" };

export class V2 {
  keepsMessages = true; // what is said without a connection is sent when it is back
  #options;
  #on;
  #kms;
  #stopped = false;

  constructor(options, on) {
    const { version, tenant, user, token } = options;
    this.#options = options;
    this.#on = on;
    this.#kms = new Client({ server: location.origin, version, tenant, user, token, patienceMs: 5_000 });
    this.#listen();
  }

  get me() {
    return this.#kms.user && { user: this.#kms.user, name: this.#kms.name };
  }

  start() {
    this.#stopped = false;
    this.#kms.connect();
    this.#kms.join(this.#options.channel, { history: historyLength }).catch((err) => {
      if (err.code !== "stopped") this.#refuse(err.message);
    });
  }

  stop() {
    this.#stopped = true;
    this.#kms.close();
  }

  retryNow() {
    this.start();
  }

  newId() {
    return ulid();
  }

  // send settles when the server has committed or refused the message, however many connections that takes.
  async send(text, id) {
    try {
      return await this.#kms.say(this.#options.channel, text, { id });
    } catch (err) {
      const perhaps = err.code === "stopped" && err.maybeSent;
      throw new Refusal(err.code, perhaps ? "there is no connection; it may or may not have been sent" : err.message);
    }
  }

  #listen() {
    const [kms, on] = [this.#kms, this.#on];
    kms.on("state", (s) => this.#tell(s));
    kms.on("message", (m) => on.message(m));
    kms.on("system", (m) => on.system(m));
    kms.on("edit", (e) => on.edited(e));
    kms.on("delete", (d) => on.deleted(d));
    kms.on("presence", (p) => on.presence(p));
    kms.on("delay", (d) => on.waiting(d.reason));
    kms.on("truncated", () => on.note("some of what was said in between is no longer kept"));
    kms.on("evicted", (e) => this.#refuse(e.reason));
  }

  #tell({ state, previous, code, reason, retryAt }) {
    if (this.#stopped) return;
    if (state === "waiting") this.#on.waiting("waiting for the connection");
    if (state === "connected" && previous === "moving") this.#on.note("moved to another server: nothing was missed");
    this.#on.state({ name: names[state], reason: state === "moving" ? undefined : reason, until: retryAt, gone: code === "version_gone" && state === "stopped" });
    if (state === "stopped" && code === "version_gone") this.#tellWhy();
  }

  // The operator's parting words.
  async #tellWhy() {
    const why = await whyNot(this.#options.url);
    if (this.#kms.state === "stopped" && why.gone) this.#on.state({ name: "refused", reason: why.reason, gone: true });
  }

  #refuse(reason) {
    this.stop();
    this.#on.state({ name: "refused", reason });
  }
}
