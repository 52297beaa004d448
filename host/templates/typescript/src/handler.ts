// A handler that greets: every value goes to the group's `output-topic` with a greeting before it.

import "fastestsmallesttextencoderdecoder"; // TextEncoder and TextDecoder, which the engine does not have
import { get } from "wasi:config/store@0.2.0-rc.1";
import { log } from "wasi:logging/logging@0.1.0-draft";
import type { Failure, Handler, Message, Outgoing } from "./keyway";

function handle({ topic, partition, offset, timestamp, key, value, headers }: Message): Outgoing[] {
  if (value === null) {
    // This record can never be handled; { tag: "retry", val: { reason, after } } would have it handled again later.
    throw { tag: "reject", val: "the record has no value" } satisfies Failure;
  }
  // `handler = { plugin = "my-plugin", config = { greeting = "hello" } }` in keyway.toml
  const greeting = get("greeting") ?? "hello";
  log("info", "", `greeting ${topic}/${partition}@${offset}`);
  const text = `${greeting}, ${new TextDecoder().decode(value)}`;
  // To the group's `output-topic`, and there to the partition that the key decides.
  return [{ timestamp, key, value: new TextEncoder().encode(text), headers, topic: null, partition: null }];
}

// It has the name of the interface that wit/world.wit exports.
export const handler: Handler = { handle };
