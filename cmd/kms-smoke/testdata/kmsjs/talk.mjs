// Two users on kms.js, one talks and both listen, until told to stop: talk.mjs SERVER TENANT CHANNEL SHOUT TOKEN TOKEN
// Prints a JSON line for each change of state, takes `hush` (no more of the channel without history) and `stop` on stdin, and
// ends with all that was acknowledged and heard.

import { createInterface } from "node:readline";
import WebSocket from "ws";
import { Client } from "./kms.js";

const [server, tenant, channel, shout, ...tokens] = process.argv.slice(2);
const print = (value) => process.stdout.write(JSON.stringify(value) + "\n");
const unasked = []; // connections that ended although we had no replacement
let sockets = 0;

const lagMs = 300; // of what a replacement says: so long both connections tell the same

// A WebSocket that knows whether it may go: not while it is the last one that was subscribed to everything.
function watched(who) {
  return class extends WebSocket {
    onmessage = null; // ours, instead of those of ws
    onclose = null;

    constructor(url) {
      super(url);
      sockets++;
      const lag = who.current ? lagMs : 0;
      const left = new Set([channel, shout]);
      this.addEventListener("message", ({ data }) => setTimeout(() => {
        for (const op of JSON.parse(data)) {
          if (op.op === "subbed" && left.delete(op.ch) && left.size === 0) who.current = this;
        }
        this.onmessage?.({ data });
      }, lag));
      this.addEventListener("close", ({ code, reason }) => setTimeout(() => {
        this.#goes(`${code}`);
        this.onclose?.({ code, reason });
      }, lag));
    }

    close(code) {
      this.#goes("closed by the client");
      super.close(code);
    }

    #goes(how) {
      if (this === who.current && !who.leaving) unasked.push(how);
      if (this === who.current) who.current = null;
    }
  };
}

const users = tokens.map((token, n) => {
  const who = { n, got: [], truncated: 0 };
  const choose = ({ live }) => live.find((v) => v.startsWith("2."));
  who.kms = new Client({ server, tenant, token: () => token, choose, WebSocket: watched(who) });
  who.kms.on("state", ({ state, code }) => print({ user: n, state, code, version: who.kms.version }));
  for (const kind of ["message", "system"]) who.kms.on(kind, ({ channel, id, seq, text }) => who.got.push({ channel, id, seq, text }));
  who.kms.on("truncated", () => who.truncated++);
  who.kms.connect();
  return who;
});
await Promise.all(users.flatMap(({ kms }) => [kms.join(channel), kms.join(shout)]));
const [talker] = users;
const answers = [];
let n = 0;
const say = (where) => answers.push(talker.kms.say(where, `${where} ${n++}`));
const talking = setInterval(say, 80, channel);
const shouting = setInterval(say, 240, shout);
print({ ready: true });

for await (const line of createInterface({ input: process.stdin })) {
  if (line === "hush") clearInterval(shouting);
  if (line === "stop") break;
}
clearInterval(talking);
clearInterval(shouting);
const receipts = await Promise.all(answers);
const all = receipts.filter((r) => r.logged).map((r) => r.id);
const deadline = Date.now() + 10_000;
while (Date.now() < deadline && users.some(({ got }) => all.some((id) => !got.some((m) => m.id === id)))) {
  await new Promise((resolve) => setTimeout(resolve, 50));
}
for (const who of users) {
  who.leaving = true;
  who.kms.close();
}
print({ receipts, unasked, sockets, version: talker.kms.version, heard: users.map(({ got, truncated }) => ({ got, truncated })) });
process.stdin.destroy();
