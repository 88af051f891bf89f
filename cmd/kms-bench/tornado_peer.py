"""A chat room on tornado, as its demo has it: each message goes to everybody in the room."""
import asyncio
import sys

import tornado.httpserver
import tornado.netutil
import tornado.web
import tornado.websocket

rooms = {}


class Chat(tornado.websocket.WebSocketHandler):
    def check_origin(self, origin):
        return True

    def open(self, room):
        self.room = rooms.setdefault(room, set())
        self.room.add(self)

    def on_message(self, message):
        for member in self.room:
            member.write_message(message)

    def on_close(self):
        self.room.discard(self)


async def main():
    app = tornado.web.Application([(r"/ch/(\w+)", Chat)], log_function=lambda handler: None)
    server = tornado.httpserver.HTTPServer(app)
    server.add_socket(tornado.netutil.bind_unix_socket(sys.argv[1]))
    await asyncio.Event().wait()


asyncio.run(main())
