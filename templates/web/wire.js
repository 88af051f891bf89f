// One WebSocket as a protocol sees it: JSON frames in and out, and exactly one end.

// Two beats of silence mean that nobody is there: the network may be gone without a word, and a browser would wait for minutes.
const beatMs = 20_000;

export class Wire {
  #socket;
  #on;
  #ping;
  #beat;
  #opened = false;
  #heard = false;
  #asked = false;

  // on: opened(wire), frame(value, wire), ended({opened, code, reason}, wire). ping is the frame that asks for a sign of life.
  constructor(url, on, ping) {
    this.#on = on;
    this.#ping = ping;
    this.#socket = new WebSocket(url);
    this.#socket.onopen = () => this.#open();
    this.#socket.onmessage = (event) => this.#receive(event.data);
    this.#socket.onclose = (event) => this.#end(event.code, event.reason);
    this.#beat = setInterval(() => this.#listen(), beatMs);
  }

  // send does nothing while the socket is not open: whoever sends learns that from the end.
  send(frame) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  // close ends the connection on our side; `ended` is not called any more.
  close() {
    this.#let();
    this.#socket.close(1000);
  }

  #open() {
    this.#opened = this.#heard = true;
    this.#on.opened(this);
  }

  #receive(text) {
    this.#heard = true;
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return; // what we cannot read is no reason to leave
    }
    this.#on.frame(frame, this);
  }

  #listen() {
    if (!this.#heard && this.#asked) {
      this.#socket.close();
      this.#end(4410, "");
      return;
    }
    this.#asked = !this.#heard;
    this.#heard = false;
    if (this.#asked) this.send(this.#ping);
  }

  #end(code, reason) {
    this.#let();
    this.#on.ended({ opened: this.#opened, code, reason }, this);
  }

  // #let lets go of the socket: nothing of it is heard any more, so a late onclose cannot end the wire twice.
  #let() {
    clearInterval(this.#beat);
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
  }
}

// whyNot asks with plain HTTP why a handshake was refused, which a browser does not tell. Only 404 and 410 will not get better.
export async function whyNot(url) {
  try {
    const answer = await fetch(url.replace(/^ws/, "http"), { cache: "no-store" });
    const body = await answer.json().catch(() => ({}));
    return { gone: answer.status === 404 || answer.status === 410, reason: sentence(answer.status, body, url) };
  } catch {
    return { gone: false, reason: "the server cannot be reached" };
  }
}

function sentence(status, body, url) {
  if (status === 426) return "the connection was refused on its way"; // the version itself is there
  const version = new URL(url).pathname.split("/")[2];
  if (status === 410) {
    const farewell = body.retired?.find((r) => r.version === version)?.message;
    return `version ${version} was retired` + (farewell ? `: ${farewell}` : "");
  }
  const unknown = status === 404 && body.versions && !body.versions.some((v) => v.version === version);
  if (unknown) return `there is no version ${version} here`;
  return body.message || `the server answered ${status}`;
}
