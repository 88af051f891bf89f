// Types of kms.js, the client of KMS's protocol 2.0. docs/client-js.md tells how to use it.

export interface Options {
  /** Where KMS is: `https://HOST`, or `wss://HOST`. In a browser the page's own origin is the default. */
  server?: string;
  /** The game's name. */
  tenant: string;
  /** The version to connect to; any whose name begins with 2 speaks this protocol. Default `2.0`. */
  version?: string;
  /** What the game's server got from KMS for this user; a function is asked before each login, so that it can get a new one. */
  token: string | (() => string | Promise<string>);
  /** The user's id, as a routing hint only: the token says who it is. */
  user?: string;
  /** Which version to go on with when the one connected to is gone. Without it, or with nothing chosen, the client stops. */
  choose?: (gone: { version: string; live: string[] }) => string | undefined | null;
  /** A `say` that may be repeated only after more than this is refused instead. Default 10000. */
  patienceMs?: number;
  /** Node below 22 has none of its own; `ws` from npm will do. */
  WebSocket?: WebSocketConstructor;
  fetch?: (url: string, init?: any) => Promise<{ ok: boolean; json(): Promise<any> }>;
}

/** What is asked of a WebSocket; a browser's has it, and that of `ws`. */
export interface WebSocketConstructor {
  new (url: string): {
    readonly readyState: number;
    onopen: any;
    onmessage: any;
    onclose: any;
    onerror: any;
    send(text: string): void;
    close(code?: number): void;
  };
}

export interface JoinOptions {
  /** How many of the last messages to begin with, if the channel has a history. Default 0. */
  history?: number;
  /** Where to go on, as `position` told an earlier run of the program. */
  from?: Position;
}

export interface Position {
  epoch: string;
  seq: number;
}

export interface Joined {
  channel: string;
  /** Has the channel a history? If not, the rest is missing, and nothing of it can be resumed. */
  logged: boolean;
  epoch?: string;
  /** The newest message's place when we came, and the oldest one's that is kept. */
  seq?: number;
  first?: number;
}

export interface Receipt {
  id: string;
  channel: string;
  at: number;
  /** In the channel's log for good, at `seq`; false in a channel without history: passed on. */
  logged: boolean;
  epoch?: string;
  seq?: number;
}

export interface Entry {
  channel: string;
  id: string;
  /** Its place; missing in a channel without history. It grows, and may skip numbers. */
  seq?: number;
  /** Unix milliseconds. */
  at: number;
}

export interface Message extends Entry {
  user: string;
  name: string;
  /** Empty: deleted since, and its `delete` follows. */
  text: string;
  /** Of this client's user. It comes before or after the receipt, with the same id. */
  own: boolean;
  /** Said before we joined: part of what `history` asked for. */
  past: boolean;
}

export interface SystemMessage extends Entry {
  user?: string;
  name?: string;
  text: string;
  past: boolean;
}

export interface Edit extends Entry {
  /** The id of the message whose text is another now. */
  target: string;
  user?: string;
  text: string;
}

export interface Delete extends Entry {
  target: string;
}

export interface Presence {
  channel: string;
  event: "join" | "leave";
  user: string;
  name?: string;
  at: number;
}

/**
 * `idle` before `connect`, `connecting`, `connected`: in all its channels, `moving`: connected, while a new connection is made because the
 * server asked for it, `waiting` until `retryAt`, `stopped`: nothing more happens until `connect`.
 */
export type State = "idle" | "connecting" | "connected" | "moving" | "waiting" | "stopped";

export interface StateChange {
  state: State;
  previous: State;
  /** Why it is waiting, moving or stopped: for programs, and for people. */
  code?: string;
  reason?: string;
  /** While waiting: when it tries again, in Unix milliseconds. */
  retryAt?: number;
  /** While moving: how long the old connection goes on. */
  graceMs?: number;
  /** Stopped because its version is gone: those that live. */
  versions?: string[];
}

/** The version will go away: since when that is said, when (both in Unix milliseconds), and the operator's words for developers. */
export interface Deprecation {
  since: number;
  sunset?: number;
  message?: string;
}

export interface Events {
  state: StateChange;
  message: Message;
  system: SystemMessage;
  edit: Edit;
  delete: Delete;
  presence: Presence;
  /** Some of what was said since the last message is no longer kept: `first` to `last` is, and the game's server can read it. */
  truncated: { channel: string; epoch: string; first: number; last: number };
  /** Not in the channel any more: `not_member`, `no_such_channel`, or why it was refused after a reconnection. */
  evicted: { channel: string; code: string; reason: string };
  /** A message waits because the server had it refused for now. */
  delay: { channel: string; id: string; code: string; reason: string; retryAt: number };
  /** The version is gone; `next` is what `choose` has chosen. */
  versions: { version: string; live: string[]; next?: string };
  /** The operator says that the version will go away, or without `deprecated` that it will not any more. */
  deprecated: { deprecated?: Deprecation };
}

/** Why something was not done. */
export class KmsError extends Error {
  constructor(code: string, message: string, more?: { retry?: boolean; afterMs?: number; maybeSent?: boolean });
  /** The protocol's code, or `left`, `stopped`. */
  readonly code: string;
  /** The same may work later, not before `afterMs`. */
  readonly retry: boolean;
  readonly afterMs?: number;
  /** Of a `say`, `edit` or `remove`: others may see the message, its answer was lost. Saying it again with the same id settles it. */
  readonly maybeSent: boolean;
}

/** A user of a tenant, on one connection that is replaced as often as needed. */
export class Client {
  constructor(options: Options);
  readonly state: State;
  /** The version connected to; another after `choose` has chosen one. */
  readonly version: string;
  /** Known once logged in. */
  readonly user: string | undefined;
  readonly name: string | undefined;
  /** Set while the operator says that the version will go away. */
  readonly deprecated: Deprecation | undefined;
  /** Calls `listener` at each such event; returns what takes it off again. */
  on<K extends keyof Events>(event: K, listener: (event: Events[K]) => void): () => void;
  /** Connects, and from then on stays connected. While waiting to try again: tries at once. */
  connect(): void;
  /** Leaves for good; what is unanswered is rejected. `connect` begins again, in the same channels where they were left. */
  close(): void;
  /** Subscribes, now and after each reconnection. Resolves when subscribed; set listeners before. */
  join(channel: string, options?: JoinOptions): Promise<Joined>;
  /** Unsubscribes: no event of the channel comes after this call. */
  leave(channel: string): Promise<void>;
  /** Sends a message, as often as it takes. Resolves when the server has it; those of one channel keep the order of the calls. */
  say(channel: string, text: string, options?: { id?: string }): Promise<Receipt>;
  /** Gives a message of this user another text. Sent, repeated and answered as what `say` sends. */
  edit(channel: string, target: string, text: string, options?: { id?: string }): Promise<Receipt>;
  /** Deletes a message of this user, likewise. */
  remove(channel: string, target: string, options?: { id?: string }): Promise<Receipt>;
  /** Where a channel stands; undefined before it is joined, and without a history. */
  position(channel: string): Position | undefined;
}

/** A new message id. */
export function ulid(now?: number): string;
