"""A handler that greets: every value goes to the group's `output-topic` with a greeting before it."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import store
from wit_world.imports.logging import Level, log
from wit_world.imports.types import Failure_Reject, Message, Outgoing


class Handler(exports.Handler):
    """The class has the name of the interface that `wit/world.wit` exports."""

    def handle(self, message: Message) -> list[Outgoing]:
        if message.value is None:
            # This record can never be handled; `Failure_Retry` would have it handled again later.
            raise Err(Failure_Reject("the record has no value"))
        # `handler = { plugin = "my-plugin", config = { greeting = "hello" } }` in keyway.toml
        greeting = store.get("greeting") or "hello"
        log(Level.INFO, "", f"greeting {message.topic}/{message.partition}@{message.offset}")
        return [
            Outgoing(
                topic=None,  # the group's `output-topic`
                partition=None,  # as the key decides
                timestamp=message.timestamp,
                key=message.key,
                value=f"{greeting}, ".encode() + message.value,
                headers=message.headers,
            )
        ]
