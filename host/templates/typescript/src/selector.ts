// A key selector: the record's header `tenant` becomes its key, so that a tenant's records stay in order.

import { get } from "wasi:config/store@0.2.0-rc.1";
import type { Candidate, Selector, Target } from "./keyway";

// The same record has to get the same answer, or records that belong together are torn apart.
function select(candidate: Candidate, partitions: number): Target {
  // `key-selector = { plugin = "my-plugin", config = { header = "tenant" } }` in keyway.toml
  const name = get("header") ?? "tenant";
  const header = candidate.headers.find(({ key }) => key === name);
  if (!header?.value) {
    throw `the record has no header \`${name}\``; // it is refused, and whoever sent it reads this
  }
  return { tag: "key", val: header.value };
}

// It has the name of the interface that wit/world.wit exports.
export const selector: Selector = { select };
