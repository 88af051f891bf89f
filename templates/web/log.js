// The list of messages of one pane. Whatever others wrote becomes text, never markup.

const groupMs = 2 * 60_000; // messages of one user within this time show the name once
const mostLines = 500;
const kana = /[\u3040-\u30ff\uff66-\uff9f]/;
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

export class Log {
  #list;
  #newer;
  #byId = new Map();
  #waiting = new Map(); // line of ours that did not come back yet -> {id, text}
  #following = true; // the end is in view; only a reader's own scrolling up changes that
  #top = 0;

  constructor(list, newer) {
    this.#list = list;
    this.#newer = newer;
    newer.addEventListener("click", () => this.#toEnd());
    list.addEventListener("scroll", () => this.#scrolled());
    new ResizeObserver(() => this.#follow()).observe(list);
  }

  message(m) {
    const ours = m.own ? this.#ours(m) : undefined;
    const line = ours ?? this.#message(m);
    if (ours) this.#settled(ours, m);
    if (!m.text) this.#blank(line);
    this.#add(line, m.id);
    this.#group(line);
  }

  #message(m) {
    const line = this.#line(m.own ? "message own" : "message", m);
    line.dataset.user = m.user;
    line.append(byline(m.name || m.user), bubble(m.text));
    date(line, m.at);
    return line;
  }

  system(m) {
    const line = this.#line("system", m);
    line.append(byline(m.name || m.user || "System"), bubble(m.text));
    date(line, m.at);
    this.#add(line, m.id);
  }

  presence(p) {
    this.note(`${p.name || p.user} ${p.event === "join" ? "joined" : "left"}`, "presence");
  }

  note(text, kind = "note") {
    const line = this.#line(kind, {});
    line.append(element("span", "", text));
    this.#add(line);
  }

  edited({ target, text }) {
    const line = this.#byId.get(target);
    if (!line) return;
    write(line.querySelector(".text"), text);
    mark(line, "edited");
  }

  deleted({ target }) {
    const line = this.#byId.get(target);
    if (line) this.#blank(line);
  }

  // sending shows our own message at once, pale, in the place where it will stay if nobody else is quicker. It returns its line.
  sending(text, id, me) {
    const line = this.#message({ own: true, user: me?.user ?? "", name: me?.name, at: Date.now(), text });
    line.classList.add("pending");
    this.#waiting.set(line, { id, text });
    this.#add(line);
    this.#group(line);
    return line;
  }

  waiting(reason) {
    for (const line of this.#waiting.keys()) {
      if (line.classList.contains("pending")) mark(line, reason);
    }
    this.#follow();
  }

  // accepted: the server has it, and its answer tells the id. What everybody sees comes before or after.
  accepted(line, id) {
    line.classList.remove("pending");
    line.classList.add("sent");
    const mine = this.#waiting.get(line);
    if (!mine) return;
    mark(line, "");
    mine.id = id;
    const twin = this.#byId.get(id);
    if (!twin) return;
    this.#settled(line, { text: twin.querySelector(".text").textContent, at: Number(twin.dataset.at) });
    twin.replaceWith(line);
    this.#byId.set(id, line);
    line.dataset.id = id;
    this.#group(line);
  }

  refused(line) {
    const next = line.nextElementSibling;
    this.#waiting.delete(line);
    line.remove();
    if (next) this.#group(next);
  }

  // ours finds the line that shows this message already. In 1.0 the id may come after the message: then the text has to do.
  #ours(m) {
    for (const [line, { id, text }] of this.#waiting) {
      if (id === m.id || (id === undefined && text === m.text)) return line;
    }
    return undefined;
  }

  // settled makes a line say what everybody sees.
  #settled(line, { text, at }) {
    const typed = this.#waiting.get(line).text;
    this.#waiting.delete(line);
    line.classList.remove("pending");
    line.classList.add("sent");
    mark(line, typed === text ? "" : "a word was masked");
    write(line.querySelector(".text"), text);
    date(line, at);
  }

  #line(kind, m) {
    const line = element("li", kind);
    line.classList.toggle("past", m.past === true);
    return line;
  }

  // The first of several messages of one user shows the name, here and in the line that follows.
  #group(line) {
    for (const l of [line, line.nextElementSibling]) {
      const before = l?.previousElementSibling;
      const same = before?.dataset.user !== undefined && before.dataset.user === l?.dataset.user;
      l?.classList.toggle("grouped", same && l.dataset.at - before.dataset.at < groupMs);
    }
  }

  #blank(line) {
    line.classList.add("deleted");
    write(line.querySelector(".text"), "deleted");
  }

  // Whoever reads further up is not pulled away.
  #add(line, id) {
    const [first] = this.#waiting.keys(); // what did not come back yet stays below
    if (!this.#waiting.has(line) && first) {
      if (line.nextElementSibling !== first) first.before(line);
    } else if (line !== this.#list.lastElementChild) {
      this.#list.append(line);
    }
    if (id) {
      line.dataset.id = id;
      this.#byId.set(id, line);
    }
    this.#trim();
    if (line.classList.contains("own")) this.#toEnd();
    this.#follow();
    this.#newer.hidden = this.#following;
  }

  #follow() {
    if (this.#following) this.#toEnd();
  }

  #trim() {
    while (this.#list.childElementCount > mostLines) {
      const first = this.#list.firstElementChild;
      this.#byId.delete(first.dataset.id);
      first.remove();
    }
  }

  #atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#list;
    return scrollHeight - scrollTop - clientHeight < 24;
  }

  // Lines and sizes change between a scroll and its event: not being at the end is no sign of a reader, going up is.
  #scrolled() {
    const { scrollTop } = this.#list;
    if (this.#atEnd()) this.#following = true;
    else if (scrollTop < this.#top) this.#following = false;
    this.#top = scrollTop;
    if (this.#following) this.#newer.hidden = true;
  }

  #toEnd() {
    this.#following = this.#newer.hidden = true;
    this.#list.scrollTop = this.#list.scrollHeight;
    this.#top = this.#list.scrollTop;
  }
}

export function element(name, kind, text = "") {
  const e = document.createElement(name);
  if (kind) e.className = kind;
  if (text) write(e, text);
  return e;
}

// write also names the language, which picks Japanese forms of the characters that Chinese and Japanese share.
export function write(e, text) {
  e.textContent = text;
  if (kana.test(text)) e.lang = "ja";
  else e.removeAttribute("lang");
}

function byline(name) {
  const line = element("p", "byline");
  line.append(element("span", "name", name), element("time"));
  return line;
}

function date(line, at) {
  const time = line.querySelector("time");
  line.dataset.at = at;
  time.dateTime = new Date(at).toISOString();
  time.textContent = clock.format(at);
}

function bubble(text) {
  const b = element("p", "bubble");
  b.append(element("span", "text", text));
  return b;
}

function mark(line, text) {
  const tag = line.querySelector(".tag");
  if (!text) tag?.remove();
  else (tag ?? line.appendChild(element("p", "tag"))).textContent = text;
}
