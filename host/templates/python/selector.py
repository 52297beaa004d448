"""A key selector: the record's header `tenant` becomes its key, so that a tenant's records stay in order."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import store
from wit_world.imports.types import Candidate, Target, Target_Key


class Selector(exports.Selector):
    """The class has the name of the interface that `wit/world.wit` exports."""

    def select(self, candidate: Candidate, partitions: int) -> Target:
        """The same record has to get the same answer, or records that belong together are torn apart."""
        # `key-selector = { plugin = "my-plugin", config = { header = "tenant" } }` in keyway.toml
        name = store.get("header") or "tenant"
        for header in candidate.headers:
            if header.key == name and header.value is not None:
                return Target_Key(header.value)
        # The record is refused, and whoever sent it reads this.
        raise Err(f"the record has no header `{name}`")
