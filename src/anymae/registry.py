"""Names to things: maskings, sources, suites, baselines, encoders, readouts and input kinds.

A new masking, source, suite or baseline is one new file with `@REGISTRY.register("name")`; the
registry's shared tests then cover it. Other packages offer theirs through an entry-point group,
`group`.

Encoders, readouts and input kinds are looked up here too, but cannot come from elsewhere: a config
is checked without loading them, against the names in `config.py` and `task.py`.
"""

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from anymae.errors import ConfigError, nearest

Entry = TypeVar("Entry")
Added = TypeVar("Added")


class Registry(Generic[Entry]):
    """Entries by name, found in this package and through entry points.

    >>> shapes = Registry[type]("shapes")
    >>> @shapes.register("round")
    ... class Round: ...
    >>> shapes["round"].__name__
    'Round'
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._entries: dict[str, Entry] = {}
        self._searched = False

    @property
    def group(self) -> str:
        """Entry points of other packages that are looked at, such as `anymae.masking`."""
        return f"anymae.{self.name.replace(' ', '_')}"

    def register(self, name: str) -> Callable[[Added], Added]:
        """Return a decorator that stores its argument under `name`."""

        def add(entry: Added) -> Added:
            if name in self._entries:
                raise ValueError(f"{self.name}: {name!r} is registered already")
            self._entries[name] = entry  # type: ignore[assignment]
            return entry

        return add

    def __getitem__(self, name: str) -> Entry:
        """Look up an entry.

        Raises:
            ConfigError: Nothing has that name; the nearest is named.
        """
        if name not in self._entries:
            self._search()
        if name not in self._entries:
            raise ConfigError(f"unknown {self.name} {name!r}{nearest(name, self._entries)}")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        self._search()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._search()
        return iter(sorted(self._entries))

    def _search(self) -> None:
        """Load what other packages offer, once."""
        if self._searched:
            return
        self._searched = True
        for point in entry_points(group=self.group):
            self._entries.setdefault(point.name, point.load())
