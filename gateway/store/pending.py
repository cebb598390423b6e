"""What waits for the disk: bounded, counted, the least precious dropped first."""

import threading
from collections import Counter, deque
from dataclasses import dataclass, field

from gateway.core.batch import Batch
from gateway.store.blocks import SAMPLES_MAX
from gateway.store.record import DROP_ORDER, Item, Kind, kind_of, memory_bytes

GROUP_SAMPLES_MAX = SAMPLES_MAX // 2
GROUP_ITEMS_MAX = 20_000


@dataclass(slots=True)
class Group:
    """What one commit writes: items by kind, small values, cursor positions, dropped counts."""

    items: dict[Kind, list[Item]] = field(default_factory=dict)
    state: dict[tuple[str, str], bytes | None] = field(default_factory=dict)
    cursors: dict[tuple[str, Kind], tuple[str, int]] = field(default_factory=dict)
    dropped: Counter[Kind] = field(default_factory=Counter)
    bytes: int = 0
    generation: int = -1
    """Everything appended up to here is in this group or was before it; -1 when it is not all."""

    def __bool__(self) -> bool:
        return bool(self.items or self.state or self.cursors or self.dropped)


class Pending:
    """A queue for each kind, one bound over all of them. Safe to use from any thread."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._queues: dict[Kind, deque[tuple[Item, int]]] = {kind: deque() for kind in Kind}
        self._next = Group()
        self.bytes = 0
        """Waiting and being committed."""
        self.overflowing = False
        """Something was dropped since the disk last took everything."""
        self.generation = 0
        self.appended: Counter[Kind] = Counter()
        self.dropped: Counter[Kind] = Counter()

    def append(self, item: Item) -> None:
        """Take one item; drop the oldest of the least precious kind where there is no room."""
        kind, size = kind_of(item), memory_bytes(item)
        with self._lock:
            self._queues[kind].append((item, size))
            self.appended[kind] += _count(item)
            self.bytes += size
            self.generation += 1
            if self.bytes > self._bytes_max:
                self._make_room()

    def put_state(self, namespace: str, key: str, value: bytes | None) -> None:
        """Set a small value (None deletes it) with the next group."""
        with self._lock:
            self._next.state[namespace, key] = value
            self.generation += 1

    def put_cursor(self, name: str, kind: Kind, spans: str, missed: int) -> None:
        """Move a cursor with the next group."""
        with self._lock:
            self._next.cursors[name, kind] = (spans, missed)
            self.generation += 1

    def __bool__(self) -> bool:
        with self._lock:
            return bool(self._next) or any(self._queues.values())

    def take(self) -> Group:
        """Take what one commit should write, oldest first."""
        with self._lock:
            group, self._next = self._next, Group()
            samples = items = 0
            for kind in reversed(DROP_ORDER):
                queue = self._queues[kind]
                taken: list[Item] = []
                while queue and items < GROUP_ITEMS_MAX:
                    n = _count(queue[0][0])
                    if kind is Kind.SAMPLES and taken and samples + n > GROUP_SAMPLES_MAX:
                        break
                    item, size = queue.popleft()
                    taken.append(item)
                    group.bytes += size
                    samples += n if kind is Kind.SAMPLES else 0
                    items += 1
                if taken:
                    group.items[kind] = taken
            if not any(self._queues.values()):
                group.generation = self.generation
            return group

    def settle(self, group: Group) -> None:
        """The group is on the disk: its memory is free."""
        with self._lock:
            self.bytes -= group.bytes
            self.overflowing = False

    def put_back(self, group: Group) -> None:
        """The group could not be written: it waits again, before everything newer."""
        with self._lock:
            for kind, items in group.items.items():
                sized = [(item, memory_bytes(item)) for item in items]
                self._queues[kind].extendleft(reversed(sized))
            self._next.state = {**group.state, **self._next.state}
            self._next.cursors = {**group.cursors, **self._next.cursors}
            self._next.dropped += group.dropped
            if self.bytes > self._bytes_max:
                self._make_room()

    def uncounted(self, kind: Kind) -> int:
        """Drops of a kind that the disk does not know of yet."""
        with self._lock:
            return self._next.dropped[kind]

    def waiting(self) -> Counter[Kind]:
        """Samples and records that are not on the disk."""
        with self._lock:
            return Counter(
                {
                    kind: sum(_count(item) for item, _ in queue)
                    for kind, queue in self._queues.items()
                    if queue
                }
            )

    def _make_room(self) -> None:
        self.overflowing = True
        for kind in DROP_ORDER:
            queue = self._queues[kind]
            while queue and self.bytes > self._bytes_max:
                item, size = queue.popleft()
                self.bytes -= size
                n = _count(item)
                self.dropped[kind] += n
                self._next.dropped[kind] += n


def _count(item: Item) -> int:
    return len(item) if isinstance(item, Batch) else 1
