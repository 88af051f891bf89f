// kms.js against a fake WebSocket, a fake clock and a fake /versions.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Client, ulid } from "./kms.js";
import { FakeSocket, msg, outcome, settle, subbed, world } from "./fake.mjs";

test("logs in, joins and hears in order", async (t) => {
  const w = world(t, { user: "a i/き" });
  w.kms.connect();
  const joined = w.kms.join("lobby");
  await settle();
  assert.equal(w.socket().url, "wss://chat.example.com/ua/2.0/demo?u=a%20i%2F%E3%81%8D");
  assert.deepEqual(w.socket().greets(), [{ op: "hello", token: "tok" }, { op: "sub", ch: "lobby" }]);
  assert.deepEqual(await joined, { channel: "lobby", logged: true, epoch: "e1", seq: 10, first: 1 });
  assert.deepEqual([w.kms.state, w.kms.user, w.kms.name], ["connected", "aki", "あき"]);
  w.socket().says(msg(11), { op: "sys", ch: "lobby", seq: 12, id: "s", name: "KMS", text: "hi", at: 1 });
  w.socket().says({ op: "edit", ch: "lobby", seq: 13, id: "e", target: "id-11", user: "bob", text: "m!", at: 2 },
    { op: "del", ch: "lobby", seq: 15, id: "d", target: "id-11", at: 3 }, { op: "new-in-2.1", ch: "lobby", seq: 16 },
    { op: "presence", ch: "lobby", event: "join", user: "bob", at: 4 }, { op: "constructor" }, null, 7);
  assert.deepEqual(w.told("message"), [{ channel: "lobby", seq: 11, id: "id-11", user: "bob", name: "Bob", text: "m11", at: 11, own: false, past: false }]);
  assert.deepEqual(w.events.slice(-4).map(([name]) => name), ["system", "edit", "delete", "presence"]);
  assert.deepEqual(w.kms.position("lobby"), { epoch: "e1", seq: 16 });
});

test("tells once that its version will go away, and when it will not any more", async (t) => {
  const w = world(t);
  await w.joined();
  const said = { since: 1, sunset: 2, message: "move on" };
  const now = () => w.told("deprecated").map((e) => e.deprecated);
  w.socket().says({ op: "version", deprecated: said });
  assert.deepEqual(now(), [said]);
  w.socket().ends(1012);
  await w.clock.pass(1000);
  w.socket().open();
  w.socket().says({ op: "welcome", tenant: "demo", user: "aki", name: "aki", deprecated: said });
  assert.deepEqual([now(), w.kms.deprecated], [[said], said]);
  w.socket().says({ op: "version" });
  assert.deepEqual([now(), w.kms.deprecated], [[said, undefined], undefined]);
});

test("waits doubling up to 30 s, between half and all of it", async (t) => {
  for (const random of [0, 0.999]) {
    const w = world(t);
    Math.random = () => random;
    w.kms.connect();
    for (const want of [1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]) {
      await settle();
      const { length } = FakeSocket.all;
      w.socket().ends(1006);
      await settle();
      const wait = w.told("state").at(-1).retryAt - Date.now();
      assert.ok(wait >= want / 2 - 50 && wait <= want, `${wait} of ${want} at ${random}`);
      await w.clock.pass(want * (0.5 + random / 2) - 1);
      assert.equal(FakeSocket.all.length, length, "it came back too early");
      await w.clock.pass(2);
      assert.equal(FakeSocket.all.length, length + 1, "it did not come back");
    }
    w.kms.close();
    w.clock.restore();
  }
});

test("comes back within a second of 1012, and after a success begins with the short waits again", async (t) => {
  const w = world(t);
  Math.random = () => 0.999;
  await w.joined();
  for (let i = 0; i < 5; i++) {
    w.socket().ends(1012);
    await w.clock.pass(1000);
    w.socket().greets();
  }
  assert.equal(FakeSocket.all.length, 6);
  w.socket().ends(1006);
  await w.clock.pass(1000);
  assert.equal(FakeSocket.all.length, 7);
  w.socket().greets();
  Math.random = () => 0;
  w.socket().ends(1012);
  await w.clock.pass(1);
  assert.equal(FakeSocket.all.length, 8, "after 1012 one waits up to a second, not half of one at least");
});

test("a handshake without an end is given up", async (t) => {
  const w = world(t);
  w.kms.connect();
  await w.clock.pass(14_999);
  assert.equal(w.kms.state, "connecting");
  await w.clock.pass(2001);
  assert.deepEqual([FakeSocket.all.length, FakeSocket.all[0].readyState], [2, 3]);
});

test("connect while waiting tries at once", async (t) => {
  const w = world(t);
  await w.joined();
  w.socket().ends(1006);
  assert.equal(w.kms.state, "waiting");
  w.kms.connect();
  await settle();
  assert.equal(FakeSocket.all.length, 2);
  await w.clock.pass(60_000); // the wait that was cut short is over, too; a handshake that hangs is given up
  assert.ok(FakeSocket.all.slice(0, -1).every((s) => s.readyState === 3), "two connections at a time");
});

test("resumes from what it heard, and shows what comes twice once", async (t) => {
  const w = world(t);
  const first = await w.joined();
  const said = w.kms.say("lobby", "hello");
  const [{ id }] = first.heard();
  first.says(msg(11), { op: "ack", ch: "lobby", id, epoch: "e1", seq: 13, at: 1, logged: true });
  assert.equal((await said).seq, 13);
  first.says(msg(11)); // 12 and 13 were on their way when the connection broke: an ack is no position
  first.ends(1006);
  await w.clock.pass(1000);
  const ops = w.socket().greets(14);
  assert.deepEqual(ops[1], { op: "sub", ch: "lobby", resume: { epoch: "e1", seq: 11 } });
  w.socket().says(msg(11), msg(12), msg(13, "hello", { user: "aki", id }), msg(14), msg(12), msg(14));
  assert.deepEqual(w.texts(), ["m11", "m12", "hello", "m14"]);
  assert.equal(w.told("message")[2].own, true);
  assert.deepEqual(w.told("truncated"), []);
});

test("tells what is truncated, and goes on from there", async (t) => {
  const w = world(t);
  (await w.joined()).ends(1006);
  await w.clock.pass(1000);
  const s = w.socket();
  s.open();
  s.says({ op: "welcome", user: "aki" }, { op: "subbed", ch: "lobby", epoch: "e2", seq: 5, first: 3, resumed: false, truncated: { first: 3, last: 5 } }, msg(6));
  assert.deepEqual(w.told("truncated"), [{ channel: "lobby", epoch: "e2", first: 3, last: 5 }]);
  assert.deepEqual(w.texts(), ["m6"]);
  assert.deepEqual(w.kms.position("lobby"), { epoch: "e2", seq: 6 });
});

test("goes on where an earlier run stopped", async (t) => {
  const w = world(t);
  w.kms.connect();
  w.kms.join("lobby", { from: { epoch: "e1", seq: 3 } });
  await settle();
  assert.deepEqual(w.socket().greets()[1].resume, { epoch: "e1", seq: 3 });
  w.socket().says(msg(4));
  assert.deepEqual(w.texts(), ["m4"]);
});

test("begins with the end of what was said", async (t) => {
  const w = world(t);
  w.kms.connect();
  const joined = w.kms.join("lobby", { history: 3 });
  await settle();
  const s = w.socket();
  s.greets(10);
  const [again] = s.heard();
  assert.deepEqual(again, { op: "sub", ch: "lobby", resume: { epoch: "e1", seq: 7 } });
  s.says(msg(11)); // of the first sub: it comes again in its place
  assert.equal(await outcome(joined), "pending");
  assert.equal(w.kms.state, "connecting");
  s.says(subbed(again, 11), msg(8), msg(9), msg(10), msg(11));
  assert.deepEqual(w.told("message").map((m) => [m.text, m.past]), [["m8", true], ["m9", true], ["m10", true], ["m11", false]]);
  assert.equal((await joined).seq, 11);
});

test("sends one at a time, and again under the same id until it is answered", async (t) => {
  const w = world(t);
  const first = await w.joined();
  const said = ["a", "b", "c"].map((text) => w.kms.say("lobby", text));
  const [a, ...none] = first.heard();
  assert.deepEqual([a.op, a.ch, a.text, a.retry, none.length], ["send", "lobby", "a", undefined, 0]);
  assert.match(a.id, /^[0-9A-HJKMNP-TV-Z]{26}$/);
  first.ends(1006);
  const d = w.kms.say("lobby", "d"); // said without a connection
  await w.clock.pass(1000);
  const second = w.socket();
  second.greets(11);
  assert.deepEqual(second.heard(), [{ ...a, retry: true }]);
  second.says({ op: "ack", ch: "lobby", id: a.id, epoch: "e1", seq: 11, at: 5, logged: true });
  assert.deepEqual(await said[0], { id: a.id, channel: "lobby", at: 5, logged: true, epoch: "e1", seq: 11 });
  for (const want of ["b", "c", "d"]) {
    const [op, ...more] = second.heard();
    assert.deepEqual([op.text, op.retry, more.length], [want, undefined, 0]);
    second.says({ op: "ack", ch: "lobby", id: op.id, epoch: "e1", seq: 12, at: 5, logged: true });
  }
  assert.equal((await d).logged, true);
});

test("edits and removes what was said, in the order of the calls", async (t) => {
  const w = world(t);
  const s = await w.joined();
  const done = [w.kms.edit("lobby", "M", "better"), w.kms.remove("lobby", "M"), w.kms.edit("lobby", "M", "late").catch((err) => err.code)];
  const [edit] = s.heard();
  assert.deepEqual(edit, { op: "edit", ch: "lobby", id: edit.id, target: "M", text: "better" });
  s.says({ op: "ack", ch: "lobby", id: edit.id, epoch: "e1", seq: 11, at: 5, logged: true });
  assert.equal((await done[0]).seq, 11);
  const [del] = s.heard();
  assert.deepEqual(del, { op: "del", ch: "lobby", id: del.id, target: "M" });
  s.says({ op: "ack", ch: "lobby", id: del.id, epoch: "e1", seq: 12, at: 6, logged: true });
  const [late] = s.heard();
  s.says({ op: "nack", of: "edit", ch: "lobby", id: late.id, code: "no_such_message", message: "none", retry: false });
  assert.equal(await done[2], "no_such_message");
  s.says({ op: "edit", ch: "lobby", seq: 13, id: "e", target: "M", text: "", at: 7 }, // changed again since: what follows tells
    { op: "edit", ch: "lobby", seq: 14, id: "f", target: "M", text: "newest", at: 8 });
  assert.deepEqual(w.told("edit").map((e) => e.text), ["newest"]);
  assert.equal(w.kms.position("lobby").seq, 14);
});

test("a refusal that passes is waited for, and nothing overtakes it", async (t) => {
  const w = world(t);
  const s = await w.joined();
  const said = w.kms.say("lobby", "a");
  w.kms.say("lobby", "b");
  const [a] = s.heard();
  s.says({ op: "nack", of: "send", ch: "lobby", id: a.id, code: "rate_limited", message: "too many", retry: true, after_ms: 800 });
  assert.equal(w.told("delay")[0].code, "rate_limited");
  await w.clock.pass(799);
  assert.deepEqual(s.heard(), []);
  await w.clock.pass(1);
  assert.deepEqual(s.heard(), [{ ...a, retry: true }]);
  s.says({ op: "nack", of: "send", ch: "lobby", id: a.id, code: "muted", message: "muted", retry: true, after_ms: 3_600_000 });
  const { error } = await outcome(said);
  assert.deepEqual([error.code, error.retry, error.afterMs, error.maybeSent], ["muted", true, 3_600_000, false]);
  assert.equal(s.heard()[0].text, "b");
});

test("a refusal that stays is told", async (t) => {
  const w = world(t);
  const s = await w.joined();
  const id = ulid();
  const said = w.kms.say("lobby", "spam", { id });
  assert.equal(s.heard()[0].id, id);
  s.says({ op: "nack", of: "send", ch: "lobby", id, code: "ng_word", message: "no", retry: false });
  assert.equal((await outcome(said)).error.code, "ng_word");
  assert.equal((await outcome(w.kms.say("nowhere", "x"))).error.code, "not_joined");
  assert.equal((await outcome(w.kms.say("lobby", "\u0001".repeat(4000)))).error.code, "too_large");
  assert.deepEqual(s.heard(), []);
});

test("a drain: the replacement is subscribed before the old connection goes, and nothing is told twice", async (t) => {
  const w = world(t);
  const old = await w.joined();
  const said = w.kms.say("lobby", "on the old one");
  const [send] = old.heard();
  old.says(msg(11), { op: "drain", grace_ms: 10000, message: "moving" });
  await settle();
  const next = w.socket();
  assert.notEqual(next, old);
  assert.deepEqual([w.kms.state, old.closed], ["moving", null]);
  next.open();
  assert.deepEqual(next.heard(), [{ op: "hello", token: "tok" }, { op: "sub", ch: "lobby", resume: { epoch: "e1", seq: 11 } }]);
  next.says({ op: "welcome", user: "aki" });
  const joined = w.kms.join("late");
  assert.deepEqual(old.heard(), [{ op: "sub", ch: "late" }]);
  old.says(msg(12), msg(13));
  assert.deepEqual(w.texts(), ["m11", "m12", "m13"], "the old connection is read until the end");
  assert.equal(old.closed, null);
  next.says({ op: "subbed", ch: "lobby", epoch: "e1", seq: 13, first: 1, resumed: true }, msg(12), msg(13), msg(14));
  assert.deepEqual(w.texts(), ["m11", "m12", "m13", "m14"]);
  assert.deepEqual(w.states().slice(-2), ["moving", "connected"]);
  assert.deepEqual(next.heard(), [{ op: "sub", ch: "late" }]);
  old.says(msg(14), msg(15), subbed({ ch: "late" })); // it is not read any more
  next.says(subbed({ ch: "late" }), msg(15));
  await joined;
  assert.deepEqual(w.texts().slice(-2), ["m14", "m15"]);
  assert.equal(old.closed, null, "it still owes an answer");
  old.says({ op: "ack", ch: "lobby", id: send.id, epoch: "e1", seq: 12, at: 1, logged: true });
  assert.equal((await said).seq, 12);
  assert.equal(old.closed, 1000);
  w.kms.say("lobby", "on the new one");
  assert.equal(next.heard()[0].text, "on the new one");
});

test("a drain: what the old connection does not answer is sent again over the new one", async (t) => {
  const w = world(t);
  const old = await w.joined();
  w.kms.say("lobby", "x");
  const [send] = old.heard();
  old.says({ op: "drain", grace_ms: 10000 });
  await settle();
  w.socket().greets();
  assert.deepEqual(w.socket().heard(), []);
  await w.clock.pass(3000);
  assert.equal(old.closed, 1000);
  assert.deepEqual(w.socket().heard(), [{ ...send, retry: true }]);
});

test("a drain: a channel made anew meanwhile is heard from the new connection alone", async (t) => {
  const w = world(t);
  const old = await w.joined();
  w.kms.say("lobby", "x");
  old.says({ op: "drain", grace_ms: 10000 });
  await settle();
  const next = w.socket();
  next.open();
  next.says({ op: "welcome", user: "aki" }, { op: "subbed", ch: "lobby", epoch: "e2", seq: 2, first: 1, resumed: false, truncated: { first: 1, last: 2 } });
  old.says(msg(11)); // it still owes an answer
  next.says(msg(3));
  assert.deepEqual([old.closed, w.texts().join(), w.told("truncated").length], [null, "m3", 1]);
  w.kms.close();
  assert.deepEqual([old.closed, next.closed, w.clock.running], [1000, 1000, 0]);
});

test("a drain: without a replacement it stays on the old connection and tries again", async (t) => {
  const w = world(t);
  const old = await w.joined();
  old.says({ op: "drain", grace_ms: 60000 });
  await settle();
  for (const fail of [(s) => s.ends(1006), (s) => s.open() ?? s.says({ op: "nack", of: "hello", code: "busy", retry: true }), (s) => s.greets()]) {
    const s = w.socket();
    assert.notEqual(s, old);
    fail(s);
    old.says(msg(11), msg(12));
    await w.clock.pass(4000);
  }
  assert.deepEqual(w.texts(), ["m11", "m12"]);
  assert.deepEqual([FakeSocket.all.length, w.kms.state, old.closed], [4, "connected", 1000]);
});

test("a drain: the old connection dies before the replacement is there", async (t) => {
  const w = world(t);
  const old = await w.joined();
  const said = w.kms.say("lobby", "x");
  const [send] = old.heard();
  old.says({ op: "drain", grace_ms: 10000 });
  await settle();
  const next = w.socket();
  next.open();
  next.says({ op: "welcome", user: "aki" });
  old.says(msg(11));
  old.ends(1006);
  assert.equal(w.kms.state, "connecting");
  next.says({ op: "subbed", ch: "lobby", epoch: "e1", seq: 12, first: 1, resumed: true }, msg(11), msg(12));
  assert.deepEqual([w.kms.state, w.texts().join(), FakeSocket.all.length], ["connected", "m11,m12", 2]);
  assert.deepEqual(next.heard().at(-1), { ...send, retry: true });
  next.says({ op: "ack", ch: "lobby", id: send.id, epoch: "e1", seq: 12, at: 1, logged: true });
  await said;
});

test("a drain of a version that is retired: moves to the one chosen before the old connection goes", async (t) => {
  const w = world(t, { choose: ({ live }) => live.find((v) => v.startsWith("2.")) });
  const old = await w.joined();
  w.versions = ["1.0", "2.0-dragon"];
  old.says({ op: "drain", grace_ms: 10000 });
  await settle();
  w.socket().ends(1006); // the handshake
  await settle();
  assert.equal(old.closed, null);
  assert.equal(w.socket().url, "wss://chat.example.com/ua/2.0-dragon/demo");
  old.says(msg(11));
  assert.deepEqual(w.socket().greets()[1].resume, { epoch: "e1", seq: 11 });
  assert.deepEqual([w.kms.state, old.closed, w.texts().join(), w.told("versions").length], ["connected", 1000, "m11", 1]);
});

test("channels without history: ids tell what came twice", async (t) => {
  const w = world(t);
  w.kms.connect();
  const joined = w.kms.join("lobby");
  await settle();
  const plain = { op: "subbed", ch: "lobby", logged: false };
  const m = (id) => ({ ...msg(0, id), id, seq: undefined });
  const old = w.socket();
  old.open();
  old.says({ op: "welcome", user: "aki" }, plain, m("a"), m("b"), m("a"));
  assert.deepEqual(await joined, { channel: "lobby", logged: false });
  assert.equal(w.kms.position("lobby"), undefined);
  old.says({ op: "drain", grace_ms: 10000 });
  await settle();
  const next = w.socket();
  next.open();
  assert.deepEqual(next.heard()[1], { op: "sub", ch: "lobby" });
  next.says(plain, m("c"), { op: "welcome", user: "aki" });
  next.says(m("d"));
  assert.deepEqual(w.texts(), ["a", "b", "c", "d"]);
});

test("a version that is gone: tells which live, and takes the one that the caller chooses", async (t) => {
  const w = world(t, { choose: ({ version, live }) => live.find((v) => v !== version && v.startsWith("2.")) });
  (await w.joined()).ends(1012);
  w.versions = ["1.0", "2.0-dragon"];
  await w.clock.pass(1000);
  w.socket().ends(1006); // the handshake
  await settle();
  assert.deepEqual(w.asked, ["https://chat.example.com/versions"]);
  assert.deepEqual(w.told("versions"), [{ version: "2.0", live: ["1.0", "2.0-dragon"], next: "2.0-dragon" }]);
  await w.clock.pass(1000);
  assert.equal(w.socket().url, "wss://chat.example.com/ua/2.0-dragon/demo");
  assert.deepEqual(w.socket().greets()[1].resume, { epoch: "e1", seq: 10 });
  assert.equal(w.kms.version, "2.0-dragon");
});

test("a version that is gone: without a choice it stops, and connect begins again", async (t) => {
  const w = world(t, { version: "2.1" });
  w.kms.connect();
  const joined = w.kms.join("lobby");
  await settle();
  w.socket().ends(1006);
  assert.equal((await outcome(joined)).error.code, "stopped");
  const { state, code, versions } = w.told("state").at(-1);
  assert.deepEqual([state, code, versions], ["stopped", "version_gone", ["1.0", "2.0"]]);
  await w.clock.pass(100_000);
  assert.equal(FakeSocket.all.length, 1);
  w.versions.push("2.1");
  await w.joined();
  assert.equal(w.kms.state, "connected");
});

test("a failed handshake of a version that lives, or of whom nobody knows, is tried again", async (t) => {
  const w = world(t);
  w.kms.connect();
  for (const versions of [["2.0"], null]) {
    w.versions = versions;
    await settle();
    w.socket().ends(1006);
    await settle();
    assert.deepEqual([w.kms.state, w.told("state").at(-1).code], ["waiting", "unreachable"]);
    await w.clock.pass(2000);
  }
  assert.equal(FakeSocket.all.length, 3);
});

test("a refused token: a function is asked for another, a string cannot change", async (t) => {
  const tokens = ["old", "new", "new"];
  const refuse = async (w, s) => {
    s.open();
    s.says({ op: "nack", of: "hello", code: "token_expired", message: "expired", retry: false });
    s.ends(4401);
    await w.clock.pass(2000);
  };
  const w = world(t, { token: async () => tokens.shift() });
  w.kms.connect();
  await settle();
  await refuse(w, w.socket());
  assert.equal(w.socket().greets()[0].token, "new");
  assert.equal(w.kms.state, "connected");
  w.socket().ends(4401); // revoked while connected
  await w.clock.pass(1000);
  assert.deepEqual([w.kms.state, w.told("state").at(-1).code, FakeSocket.all.length], ["stopped", "bad_token", 2]);
  w.clock.restore();

  const s = world(t);
  s.kms.connect();
  await settle();
  await refuse(s, s.socket());
  assert.deepEqual([s.kms.state, s.told("state").at(-1).code, FakeSocket.all.length], ["stopped", "token_expired", 1]);
});

test("a token that cannot be had now is asked for again", async (t) => {
  let n = 0;
  const w = world(t, { token: () => (n++ ? "tok" : Promise.reject(new Error("offline"))) });
  w.kms.connect();
  await settle();
  assert.deepEqual([w.kms.state, w.told("state").at(-1).code], ["waiting", "no_token"]);
  await w.clock.pass(1000);
  assert.equal(FakeSocket.all.length, 1);
});

test("comes back by the close code", async (t) => {
  for (const [code, state] of [[1002, "stopped"], [1009, "stopped"], [4400, "stopped"], [4403, "stopped"], [1000, "waiting"], [1001, "waiting"],
    [1006, "waiting"], [1011, "waiting"], [1012, "waiting"], [1013, "waiting"], [4408, "waiting"], [4410, "waiting"], [4499, "waiting"]]) {
    const w = world(t);
    (await w.joined()).ends(code);
    assert.equal(w.kms.state, state, code);
    w.kms.close();
    w.clock.restore();
  }
});

test("too busy to log us in: waits as long as it is told", async (t) => {
  const w = world(t);
  w.kms.connect();
  await settle();
  w.socket().open();
  w.socket().says({ op: "nack", of: "hello", code: "busy", message: "busy", retry: true, after_ms: 5000 });
  w.socket().ends(1013);
  await w.clock.pass(5499);
  assert.equal(FakeSocket.all.length, 1);
  await w.clock.pass(501);
  assert.equal(FakeSocket.all.length, 2);
});

test("silence is asked about once, then given up", async (t) => {
  const w = world(t);
  const s = await w.joined();
  await w.clock.pass(40_000);
  assert.deepEqual(s.heard(), [{ op: "ping" }]);
  s.says({ op: "pong" });
  await w.clock.pass(40_000);
  assert.deepEqual(s.heard(), [{ op: "ping" }]);
  assert.equal(w.kms.state, "connected");
  await w.clock.pass(20_000);
  assert.equal(w.told("state").find((c) => c.state === "waiting").code, "silent");
  assert.equal(s.readyState, 3);
});

test("a channel that is refused, or ends", async (t) => {
  const w = world(t);
  const s = await w.joined();
  const guild = w.kms.join("guild-7");
  s.says({ op: "nack", of: "sub", ch: "guild-7", code: "not_member", message: "no", retry: false });
  assert.equal((await outcome(guild)).error.code, "not_member");
  const busy = w.kms.join("busy");
  s.heard();
  s.says({ op: "nack", of: "sub", ch: "busy", code: "unavailable", message: "no", retry: true, after_ms: 500 });
  await w.clock.pass(500);
  assert.deepEqual(s.heard(), [{ op: "sub", ch: "busy" }]);
  s.says(subbed({ ch: "busy" }));
  await busy;
  const said = w.kms.say("lobby", "x");
  s.says({ op: "evicted", ch: "lobby", code: "not_member" }, msg(11));
  assert.deepEqual(w.told("evicted").map((e) => [e.channel, e.code]), [["lobby", "not_member"]]);
  const { error } = await outcome(said);
  assert.deepEqual([error.code, error.maybeSent], ["not_member", true]);
  assert.deepEqual(w.texts(), []);
  s.ends(1006);
  await w.clock.pass(1000);
  assert.deepEqual(w.socket().greets().slice(1).map((o) => o.ch), ["busy"]);
});

test("leaves, and may come again at once", async (t) => {
  const w = world(t);
  w.kms.connect();
  const first = w.kms.join("lobby");
  await settle();
  const s = w.socket();
  s.open();
  const left = w.kms.leave("lobby");
  const again = w.kms.join("lobby");
  assert.deepEqual(s.heard().map((o) => o.op), ["hello", "sub", "unsub", "sub"]);
  assert.equal((await outcome(first)).error.code, "left");
  s.says({ op: "welcome", user: "aki" }, subbed({ ch: "lobby" }, 10), msg(11), { op: "unsubbed", ch: "lobby" });
  await left;
  assert.equal(await outcome(again), "pending");
  s.says(subbed({ ch: "lobby" }, 20), msg(21));
  assert.equal((await again).seq, 20);
  assert.deepEqual(w.texts(), ["m21"]);
  await w.kms.leave("nowhere");
});

test("close gives back what is open, and nothing goes on", async (t) => {
  const w = world(t);
  const s = await w.joined();
  const [sent, queued] = [w.kms.say("lobby", "a"), w.kms.say("lobby", "b")];
  w.kms.close();
  assert.deepEqual((await outcome(sent)).error.maybeSent, true);
  assert.deepEqual((await outcome(queued)).error.maybeSent, false);
  assert.deepEqual([w.kms.state, s.closed, w.clock.running], ["stopped", 1000, 0]);
  w.kms.connect();
  await settle();
  assert.deepEqual(w.socket().greets()[1].resume, { epoch: "e1", seq: 10 }, "it begins where it was left");
});

test("a listener that throws stops nothing; one that closes stops all", async (t) => {
  const w = world(t);
  const thrown = [];
  const { queueMicrotask } = globalThis;
  globalThis.queueMicrotask = (f) => {
    try {
      f();
    } catch (err) {
      thrown.push(err.message);
    }
  };
  t.after(() => Object.assign(globalThis, { queueMicrotask }));
  const s = await w.joined();
  const off = w.kms.on("message", (m) => {
    throw new Error(m.text);
  });
  s.says(msg(11), msg(12));
  off();
  w.kms.on("message", () => w.kms.close());
  s.says(msg(13), msg(14));
  assert.deepEqual([thrown.join(), w.texts().join()], ["m11,m12", "m11,m12,m13"]);
});

test("200 channels are asked for in frames that the server takes", async (t) => {
  const w = world(t);
  const all = Array.from({ length: 200 }, (_, i) => w.kms.join(`${i}`.padEnd(64, "x"), { from: { epoch: "e".repeat(16), seq: 2 ** 40 } }));
  w.kms.connect();
  await settle();
  assert.equal(w.socket().greets(2 ** 41).length, 201);
  await Promise.all(all);
  assert.equal(w.kms.state, "connected");
});

test("ulid", () => {
  assert.equal(ulid(0).slice(0, 10), "0000000000");
  assert.equal(ulid(2 ** 48 - 1).slice(0, 10), "7ZZZZZZZZZ");
  assert.equal(ulid(1469918176385).slice(0, 10), "01ARYZ6S41"); // the specification's example
  assert.equal(new Set(Array.from({ length: 1000 }, () => ulid())).size, 1000);
  const { crypto } = globalThis;
  Object.defineProperty(globalThis, "crypto", { value: undefined, configurable: true, writable: true });
  assert.equal(new Set(Array.from({ length: 1000 }, () => ulid())).size, 1000);
  Object.defineProperty(globalThis, "crypto", { value: crypto, configurable: true, writable: true });
});

test("says at once what cannot work", () => {
  for (const wrong of [{ tenant: "demo" }, { server: "chat.example.com", tenant: "demo" }, { server: "https://x" }, { server: "https://x", tenant: "demo" }]) {
    assert.throws(() => new Client({ token: "tok", ...wrong, WebSocket: wrong.server && wrong.tenant ? null : FakeSocket }), TypeError);
  }
});
