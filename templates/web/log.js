// The list of messages of one pane. Whatever others wrote becomes text, never markup.

const groupMs = 2 * 60_000; // messages of one user within this time show the name once
const mostLines = 500;
const kana = /[\u3040-\u30ff\uff66-\uff9f]/;
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

export class Log {
  #list;
  #newer;
  #byId = new Map();
  #sent = new Map(); // id -> what we typed, until both it and what everybody sees are known
  #waiting = new Set();
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
    const line = this.#line(m.own ? "message own" : "message", m);
    const grouped = this.#continues(m);
    line.classList.toggle("grouped", grouped);
    line.dataset.user = m.user;
    line.dataset.at = m.at;
    line.append(byline(m.name || m.user, m.at, grouped), bubble(m.text));
    if (!m.text) this.#blank(line);
    this.#add(line, m.id);
    if (m.own) this.#compare(m.id);
  }

  system(m) {
    const line = this.#line("system", m);
    line.append(byline(m.name || m.user || "System", m.at, false), bubble(m.text));
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

  // sending shows our own message at once, pale, until it has come back from the server or was refused; it returns the way to
  // take it off again. A quick answer leaves no time to see it.
  sending(text) {
    const line = this.#line("message own pending", {});
    line.append(bubble(text));
    mark(line, "sending…");
    this.#waiting.add(line);
    const shown = setTimeout(() => this.#add(line), 300);
    return () => {
      clearTimeout(shown);
      this.#waiting.delete(line);
      line.remove();
    };
  }

  waiting(reason) {
    for (const line of this.#waiting) mark(line, reason);
    this.#follow();
  }

  // accepted tells what we typed, so that a masked message can say so.
  accepted(id, typed) {
    this.#sent.set(id, typed);
    this.#compare(id);
  }

  #compare(id) {
    const typed = this.#sent.get(id);
    const line = this.#byId.get(id);
    if (typed === undefined || !line) return;
    this.#sent.delete(id);
    if (line.querySelector(".text").textContent !== typed) mark(line, "a word was masked");
    this.#follow();
  }

  #line(kind, m) {
    const line = element("li", kind);
    line.classList.toggle("past", m.past === true);
    return line;
  }

  #continues(m) {
    const last = this.#list.lastElementChild;
    return last?.dataset.user === m.user && m.at - last.dataset.at < groupMs;
  }

  #blank(line) {
    line.classList.add("deleted");
    write(line.querySelector(".text"), "deleted");
  }

  // Whoever reads further up is not pulled away.
  #add(line, id) {
    const pending = this.#list.querySelector(".pending");
    if (pending && !line.classList.contains("pending")) pending.before(line);
    else this.#list.append(line);
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

function byline(name, at, hidden) {
  const line = element("p", hidden ? "byline hidden" : "byline");
  const time = element("time", "", clock.format(at));
  time.dateTime = new Date(at).toISOString();
  line.append(element("span", "name", name), time);
  return line;
}

function bubble(text) {
  const b = element("p", "bubble");
  b.append(element("span", "text", text));
  return b;
}

function mark(line, text) {
  const tag = line.querySelector(".tag") ?? line.appendChild(element("p", "tag"));
  tag.textContent = text;
}
