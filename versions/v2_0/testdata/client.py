#!/usr/bin/python3
"""A client of protocol 2.0, written from docs/protocol/2.0.md alone.

    client.py wss://HOST/ua/2.0/TENANT TOKEN CHANNEL [SECONDS]

Sends, is cut off with messages unanswered, comes back, resumes, sends again what was not answered, and checks that everything
arrived once and in order. With SECONDS it then stays and prints what it receives, one operation a line, and moves when it is
told to. Ends with 0 and "ok".
"""
import asyncio
import json
import random
import ssl
import sys
import time

import websockets

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid():
    n = int(time.time() * 1000) << 80 | random.getrandbits(80)
    return "".join(ALPHABET[n >> shift & 31] for shift in range(125, -1, -5))


class Client:
    def __init__(self, url, token, channel):
        self.url, self.token, self.channel = url, token, channel
        self.context = ssl._create_unverified_context() if url.startswith("wss:") else None
        self.position = None
        self.unanswered = {}  # id -> text, in the order of sending
        self.received = []

    async def connect(self):
        """Opens a connection, resumes, and only then drops the old one."""
        old, wait = getattr(self, "ws", None), 1.0
        while True:
            try:
                ws = await websockets.connect(self.url, ssl=self.context)
                break
            except OSError:
                await asyncio.sleep(wait * random.uniform(0.5, 1))
                wait = min(2 * wait, 30)
        sub = {"op": "sub", "ch": self.channel}
        if self.position:
            sub["resume"] = self.position
        await ws.send(json.dumps([{"op": "hello", "token": self.token}, sub]))
        self.ws, self.ops = ws, []
        self.me = await self.expect("welcome")
        self.subbed = await self.expect("subbed")
        assert "truncated" not in self.subbed, self.subbed
        if not self.position:
            self.position = {"epoch": self.subbed["epoch"], "seq": self.subbed["seq"]}
        if old:
            await old.close()
        for i, text in self.unanswered.items():
            await self.put(i, text, retry=True)

    async def put(self, i, text, **more):
        await self.ws.send(json.dumps([dict(op="send", ch=self.channel, id=i, text=text, **more)]))

    async def send(self, text):
        i = ulid()
        self.unanswered[i] = text
        await self.put(i, text)
        return i

    async def receive(self):
        """Returns the next operation that is news, with the position moved on."""
        while True:
            while not self.ops:
                self.ops = json.loads(await self.ws.recv())
            op = self.ops.pop(0)
            if op["op"] == "ack":
                self.unanswered.pop(op["id"], None)
            elif op["op"] == "nack" and op.get("retry"):
                await asyncio.sleep(op.get("after_ms", 200) / 1000)
                await self.put(op["id"], self.unanswered[op["id"]], retry=True)
                continue
            elif op["op"] in ("msg", "sys", "edit", "del") and "seq" in op:
                if op["seq"] <= self.position["seq"]:
                    continue
                self.position["seq"] = op["seq"]
                self.received.append(op)
            return op

    async def expect(self, kind):
        while True:
            op = await self.receive()
            if op["op"] == kind:
                return op
            assert op["op"] != "nack", op

    async def settle(self, ids):
        """Waits until all of ids are acknowledged and received."""
        while self.unanswered or len([op for op in self.received if op["id"] in ids]) < len(ids):
            await self.receive()

    async def stay(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                op = await asyncio.wait_for(self.receive(), end - time.monotonic())
                print(json.dumps(op, ensure_ascii=False), flush=True)
                if op["op"] == "drain":
                    await self.connect()
            except asyncio.TimeoutError:
                return
            except websockets.ConnectionClosed as closed:
                assert closed.code in (1006, 1012), closed
                await asyncio.sleep(random.uniform(0, 1))
                await self.connect()


async def main(url, token, channel, seconds="0"):
    client = Client(url, token, channel)
    await client.connect()
    ids = [await client.send(text) for text in ("こんにちは", "hello", "か が 😀")]
    await client.settle(ids)

    ids += [await client.send("cut off %d" % n) for n in range(20)]
    client.ws.transport.abort()
    await client.connect()
    assert client.subbed["resumed"], client.subbed
    await client.settle(ids)
    mine = [op["id"] for op in client.received if op["id"] in ids]
    assert mine == ids, (mine, ids)

    await client.ws.send(json.dumps([{"op": "sub", "ch": "no such channel"}]))
    while (op := await client.receive())["op"] != "nack":
        pass
    assert op["code"] == "bad_name" and not op["retry"], op
    await client.stay(float(seconds))
    await client.ws.send(json.dumps([{"op": "unsub", "ch": channel}, {"op": "ping", "t": 7}]))
    await client.expect("unsubbed")
    assert (await client.expect("pong"))["t"] == 7
    await client.ws.close()
    print("ok")


asyncio.run(main(*sys.argv[1:]))
