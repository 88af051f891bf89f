// One pane: a client of one version, with its own login, state and list of messages.

import { Log, element, write } from "./log.js";
import { V1 } from "./v1.js";
import { V2 } from "./v2.js";

// A game may give a version a name of its own, such as 2.0-dragon; the major number tells the protocol.
const protocols = new Map([["1", V1], ["2", V2]]);
export const speaks = (version) => protocols.has(major(version));
const major = (version) => version.split(".")[0].split("-")[0];

const stateText = {
  idle: "not connected", connecting: "connecting…", connected: "connected", moving: "moving…", reconnecting: "reconnecting", refused: "refused",
};
const movingMs = 1_500; // a move takes less time than one needs to see it

export class Pane {
  #login = null; // {tenant, channel, token, user}
  #version;
  #live = [];
  #session = null;
  #state = { name: "idle" };
  #clock = 0;
  #shown = { name: "idle", at: 0 };
  #later = 0;
  #lost;
  #form = false; // is there a login form to go back to?

  // lost is called when the pane's version turns out to be gone.
  constructor(root, preferred, lost) {
    this.root = root;
    this.#lost = lost;
    this.#version = preferred;
    this.log = new Log(this.#find(".log"), this.#find(".newer"));
    this.#find(".version").addEventListener("change", (event) => this.use(event.target.value));
    this.#find(".again").addEventListener("click", () => this.#session?.retryNow());
    this.#find(".login").addEventListener("submit", (event) => this.#submit(event));
    this.#listenToComposer();
    this.#show({ name: "idle" });
  }

  // versionsAre tells the pane what is live now. A pane whose version comes back comes back, too.
  versionsAre(live) {
    this.#live = live;
    if (!this.#session && !live.includes(this.#version)) {
      this.#version = live.find((v) => major(v) === major(this.#version)) ?? this.#version;
    }
    this.#offer();
    if (this.#state.gone && live.includes(this.#version)) this.#session?.retryNow();
  }

  // start logs in at once; without a login the pane asks for one.
  start(login) {
    this.#form = !login;
    this.#login = login;
    this.#find(".login").hidden = !this.#form;
    this.root.classList.toggle("asking", this.#form);
    if (login) this.#connect();
    else this.#name("");
  }

  use(version) {
    if (version === this.#version) return;
    this.#version = version;
    this.log.note(`now on ${version}`);
    this.#offer();
    if (this.#login) this.#connect();
  }

  #find(selector) {
    return this.root.querySelector(selector);
  }

  #connect() {
    this.#session?.stop();
    const Client = protocols.get(major(this.#version));
    const { user, name } = this.#login;
    this.#name(name || user);
    const options = { ...this.#login, version: this.#version, url: this.#address() };
    const session = new Client(options, this.#events(() => session));
    this.#session = session;
    session.start();
  }

  #address() {
    const url = new URL(`/ua/${this.#version}/${this.#login.tenant}`, location.href.replace(/^http/, "ws"));
    if (this.#login.user) url.search = `?u=${encodeURIComponent(this.#login.user)}`;
    return url.href;
  }

  // A session that was replaced may still have something to say; it is not heard.
  #events(session) {
    const { log } = this;
    const events = {
      state: (s) => this.#show(s),
      message: (m) => log.message(m),
      system: (m) => log.system(m),
      presence: (p) => p.user !== session().me?.user && log.presence(p), // who reads this knows of themselves
      edited: (e) => log.edited(e),
      deleted: (d) => log.deleted(d),
      note: (text) => log.note(text),
      waiting: (reason) => log.waiting(reason),
    };
    const heard = Object.entries(events).map(([name, act]) => [name, (e) => {
      if (this.#session === session()) act(e);
    }]);
    return Object.fromEntries(heard);
  }

  #show(state) {
    this.#state = state;
    const { name } = state;
    this.#find(".again").hidden = name !== "reconnecting" && !(name === "refused" && !this.#form);
    if (name === "connected") this.#name(this.#session.me?.name || this.#session.me?.user);
    // 2.0 sends what was typed without a connection when it is back; 1.0 cannot.
    this.#find(".send").disabled = name !== "connected" && (name === "refused" || !this.#session?.keepsMessages);
    this.#say(state);
    this.#look();
    if (this.#form) this.#askAgain(state);
    if (state.gone) this.#lost();
  }

  // The state as one sees it: a move that is over is shown a little longer.
  #look() {
    clearTimeout(this.#later);
    const { name } = this.#state;
    const left = this.#shown.name === "moving" && name === "connected" ? this.#shown.at + movingMs - Date.now() : 0;
    if (left > 0) {
      this.#later = setTimeout(() => this.#look(), left);
      return;
    }
    this.#shown = { name, at: Date.now() };
    this.#find(".state").dataset.state = name;
    this.#tick();
  }

  #say({ reason, gone }) {
    const line = this.#find(".reason");
    const others = this.#live.filter((v) => v !== this.#version && speaks(v));
    const way = gone && others.length > 0 ? ` Move to ${others.join(" or ")} above.` : "";
    this.#find(".notice").hidden = !reason && this.#find(".again").hidden;
    write(line, reason ? capital(reason) + "." + way : "");
  }

  #tick() {
    clearInterval(this.#clock);
    const { name, until } = this.#state;
    this.#find(".state-text").textContent = stateText[name];
    const left = this.#find(".state-left"); // apart, or it would be read aloud each second
    const tell = () => {
      left.textContent = until ? `in ${Math.max(0, Math.ceil((until - Date.now()) / 1000))} s` : "";
    };
    tell();
    if (until) this.#clock = setInterval(tell, 250);
  }

  #askAgain({ name, gone }) {
    const ask = name === "idle" || (name === "refused" && !gone);
    this.#find(".login").hidden = !ask;
    this.root.classList.toggle("asking", ask);
  }

  #name(name) {
    const who = name || "?";
    write(this.#find(".who"), name || "Log in");
    write(this.#find(".avatar"), Array.from(who)[0].toUpperCase());
    this.root.setAttribute("aria-label", `${who} on version ${this.#version}`);
    this.#find(".log").setAttribute("aria-label", `Messages, seen by ${who}`);
    this.#find("textarea").setAttribute("aria-label", `Message as ${who}`);
  }

  #offer() {
    const options = this.#live.map((v) => option(v, speaks(v) ? v : `${v} (not spoken here)`, !speaks(v)));
    if (!this.#live.includes(this.#version)) options.unshift(option(this.#version, `${this.#version} (not live)`, false));
    const select = this.#find(".version");
    select.replaceChildren(...options);
    select.value = this.#version;
  }

  #submit(event) {
    event.preventDefault();
    const entered = Object.fromEntries(new FormData(event.target));
    this.#login = entered;
    this.#connect();
  }

  #listenToComposer() {
    const box = this.#find("textarea");
    box.addEventListener("keydown", (event) => {
      // An Enter that ends an IME's composition is not ours; Safari tells it by 229 alone.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      this.#send();
    });
    box.addEventListener("input", () => this.#problem(""));
    this.#find(".composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
  }

  async #send() {
    const box = this.#find("textarea");
    const text = box.value.trim();
    if (!text || this.#find(".send").disabled) return;
    box.value = "";
    this.#problem("");
    box.focus();
    const session = this.#session;
    const id = session.newId();
    const line = this.log.sending(text, id, session.me);
    try {
      this.log.accepted(line, (await session.send(text, id)).id);
    } catch (refusal) {
      this.log.refused(line);
      if (!box.value.trim()) box.value = text; // it is theirs to change and send again
      this.#problem(`Not sent: ${refusal.message}`, refusal.code);
    }
  }

  #problem(text, code = "") {
    const line = this.#find(".problem");
    line.hidden = !text;
    line.replaceChildren(element("span", "", text), element("code", "", code));
  }
}

function option(value, text, disabled) {
  const o = new Option(text, value);
  o.disabled = disabled;
  return o;
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
