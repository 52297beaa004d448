// A handler that lets through what fits a JSON schema and rejects the rest, with what is wrong and where.

import "fastestsmallesttextencoderdecoder"; // TextDecoder, which the engine does not have
import { Ajv2020, type ErrorObject, type ValidateFunction } from "ajv/dist/2020";
import { get } from "wasi:config/store@0.2.0-rc.1";
import type { Failure, Handler, Lifecycle, Message, Outgoing } from "./keyway";

// An instance handles many records: what is the same for all of them is made once, in `init`.
let validate: ValidateFunction;

// An error here refuses the plugin before it sees a record, and whatever served before serves on.
function init() {
  const schema = get("schema");
  if (schema === null) {
    throw "config `schema` is missing: a JSON schema, as text";
  }
  try {
    validate = new Ajv2020({ allErrors: true, logger: false }).compile(JSON.parse(schema));
  } catch (error) {
    throw `config \`schema\` is no JSON schema: ${error}`;
  }
}

function handle({ timestamp, key, value, headers }: Message): Outgoing[] {
  if (value !== null) {
    check(new TextDecoder().decode(value)); // a tombstone fits every schema
  }
  return [{ topic: null, partition: null, timestamp, key, value, headers }];
}

function check(text: string) {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    reject(`the value is not JSON: ${error}`);
  }
  if (!validate(value)) {
    reject((validate.errors ?? []).map(describe).join("; "));
  }
}

// `/user/name must be string`
function describe({ instancePath, message }: ErrorObject): string {
  return `${instancePath || "the value"} ${message}`;
}

function reject(reason: string): never {
  throw { tag: "reject", val: reason } satisfies Failure;
}

// They have the names of the interfaces that wit/world.wit exports.
export const handler: Handler = { handle };
export const lifecycle: Lifecycle = { init };
