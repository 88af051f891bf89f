// A program that uses what kms.d.ts tells. It is compiled, not run.

import * as written from "./kms.js";
import * as made from "./made.js";
import { Client, KmsError, Message, Position, State, ulid } from "./kms.js";

// What the JSDoc of kms.js says is what kms.d.ts says, name by name.
const client: typeof written.Client = made.Client;
const error: typeof written.KmsError = made.KmsError;
const id: typeof written.ulid = made.ulid;
const names: Record<keyof typeof written, unknown> = { Client: client, KmsError: error, ulid: id };
const back: Record<keyof typeof made, unknown> = names;
const options: ConstructorParameters<typeof made.Client>[0] = {} as ConstructorParameters<typeof written.Client>[0];
const members: Record<keyof made.Client, unknown> = {} as written.Client;

const kms = new Client({ server: "https://chat.example.com", tenant: "quest", token: async () => "t", choose: ({ live }) => live[0] });
new Client({ tenant: "quest", token: "t", WebSocket });
const off: () => void = kms.on("message", (m: Message) => console.log(m.text.length, m.own, m.past, m.seq?.toFixed()));
kms.on("state", ({ state, retryAt, versions }) => console.log(state === "waiting" && retryAt, versions?.length));
kms.on("truncated", ({ first, last }) => console.log(last - first));
const state: State = kms.state;
const at: Position | undefined = kms.position("lobby");
kms.join("lobby", { history: 30, from: at }).then(({ logged, seq }) => console.log(logged, seq));
kms.edit("lobby", ulid(), "hello").then(({ seq }) => kms.remove("lobby", ulid(), { id: ulid(seq) }));
kms.say("lobby", "hi", { id: ulid() }).then(({ id, at }) => console.log(id, at), (err: KmsError) => console.log(err.code, err.maybeSent));

// @ts-expect-error: there is no such event
kms.on("massage", () => {});
// @ts-expect-error: a tenant is needed
new Client({ token: "t" });
// @ts-expect-error: only kms.js changes it
kms.state = "idle";

export { off, state, options, members, back };
