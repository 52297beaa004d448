"""A handler that masks personal data in every text of a JSON value, and emits the record."""

import json
from functools import cache

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import store
from wit_world.imports.types import Failure_Reject, Message, Outgoing

from pii import KINDS, mask


@cache  # an instance handles many records, with one configuration
def kinds() -> list[str]:
    """What is masked, from `config = { mask = "email iban" }`; all there is where it does not say."""
    given = (store.get("mask") or " ".join(KINDS)).split()
    if unknown := sorted(set(given) - set(KINDS)):
        raise Err(f"config `mask` has {', '.join(unknown)}, there are {', '.join(KINDS)}")
    return [kind for kind in KINDS if kind in given]


class Lifecycle(exports.Lifecycle):
    def init(self) -> None:
        """An error here refuses the plugin before it sees a record, and whatever served before serves on."""
        kinds()


class Handler(exports.Handler):
    def handle(self, message: Message) -> list[Outgoing]:
        value = message.value
        if value is not None:  # a tombstone stays one
            try:
                masked = mask(json.loads(value), kinds())
            except ValueError as error:
                # Not let through: what cannot be read cannot be masked.
                raise Err(Failure_Reject(f"the value is not JSON: {error}"))
            value = json.dumps(masked, ensure_ascii=False, separators=(",", ":")).encode()
        return [Outgoing(None, None, message.timestamp, message.key, value, message.headers)]
