// What wit/deps says, as the types of TypeScript. Options are null where there is nothing, results throw their error.

export interface Header {
  key: string;
  value: Uint8Array | null;
}

/** A record read from a topic. Without a value it is a tombstone. */
export interface Message {
  topic: string;
  partition: number;
  offset: number;
  /** Milliseconds since the Unix epoch. */
  timestamp: number | null;
  key: Uint8Array | null;
  value: Uint8Array | null;
  headers: Header[];
  /** 1 the first time, 2 after the first retry. */
  attempt: number;
}

/** A record to write: to the group's `output-topic` where it names none, to the partition that its key decides. */
export interface Outgoing {
  topic: string | null;
  partition: number | null;
  timestamp: number | null;
  key: Uint8Array | null;
  value: Uint8Array | null;
  headers: Header[];
}

/** What a handler throws: not now, or never. */
export type Failure =
  | { tag: "retry"; val: { reason: string; after: number | null } }
  | { tag: "reject"; val: string };

export interface Handler {
  handle(message: Message): Outgoing[];
}

/** A record about to be written, as its caller gave it. */
export interface Candidate {
  topic: string;
  timestamp: number | null;
  key: Uint8Array | null;
  value: Uint8Array | null;
  headers: Header[];
}

/** Where a record goes. */
export type Target = { tag: "spread" } | { tag: "key"; val: Uint8Array } | { tag: "partition"; val: number };

/** What a selector throws is a string, which the caller reads. */
export interface Selector {
  select(candidate: Candidate, partitions: number): Target;
}

/** What there is to do before the first record. What it throws is a string, and refuses the plugin. */
export interface Lifecycle {
  init(): void;
}
