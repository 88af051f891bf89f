#!/usr/bin/python3
"""A client of protocol 1.0, written from docs/protocol/1.0.md alone.

    client.py wss://HOST/ua/1.0/TENANT TOKEN CHANNEL [SECONDS]

Logs in, joins, says three things without waiting in between, and checks answers, echoes and order. With SECONDS it then
stays and prints what it receives, one frame a line, and comes back when the server restarts. Ends with 0 and "ok".
"""
import asyncio
import json
import random
import ssl
import sys
import time

import websockets


class Client:
    def __init__(self, url, token, channel):
        self.url, self.token, self.channel = url, token, channel
        self.context = ssl._create_unverified_context() if url.startswith("wss:") else None

    async def connect(self):
        wait = 1.0
        while True:
            try:
                self.ws = await websockets.connect(self.url, ssl=self.context)
                break
            except OSError:
                await asyncio.sleep(wait * random.uniform(0.5, 1))
                wait = min(2 * wait, 30)
        await self.send(type="login", token=self.token)
        self.me = await self.expect("logged_in")
        await self.send(type="join", channel=self.channel)
        await self.expect("joined")

    async def send(self, **frame):
        await self.ws.send(json.dumps(frame))

    async def receive(self):
        return json.loads(await self.ws.recv())

    async def expect(self, kind):
        while True:
            frame = await self.receive()
            if frame["type"] == kind:
                return frame
            assert frame["type"] in ("message", "system", "join", "leave"), frame

    async def say(self, texts):
        ids = ["c%d" % n for n in range(len(texts))]
        for i, text in zip(ids, texts):
            await self.send(type="say", channel=self.channel, id=i, text=text)
        answers, echoes = [], []
        while len(answers) < len(texts) or len(echoes) < len(texts):
            frame = await self.receive()
            assert frame["type"] != "error", frame
            if frame["type"] == "said":
                answers.append(frame)
            elif frame["type"] == "message" and frame["user"] == self.me["user"]:
                echoes.append(frame)
        assert [a["id"] for a in answers] == ids, answers
        assert [e["text"] for e in echoes] == texts, echoes
        assert [a["message"] for a in answers] == [e["id"] for e in echoes], (answers, echoes)

    async def stay(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                frame = await asyncio.wait_for(self.receive(), end - time.monotonic())
                print(json.dumps(frame, ensure_ascii=False), flush=True)
            except asyncio.TimeoutError:
                return
            except websockets.ConnectionClosed as closed:
                assert closed.code in (1006, 1012), closed
                await asyncio.sleep(random.uniform(0, 1))
                await self.connect()


async def main(url, token, channel, seconds="0"):
    client = Client(url, token, channel)
    await client.connect()
    await client.say(["こんにちは", "hello", "か が 😀"])
    await client.send(type="ping")
    await client.expect("pong")
    await client.send(type="join", channel="no such channel")
    error = await client.expect("error")
    assert error["code"] == "bad_name" and not error["retry"], error
    await client.stay(float(seconds))
    await client.send(type="leave", channel=channel)
    await client.expect("left")
    await client.ws.close()
    print("ok")


asyncio.run(main(*sys.argv[1:]))
