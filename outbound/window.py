"""The events of one cursor that are being delivered: in order within an order, side by side across.

Pure: it knows neither time nor network.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from eventlog.log import Checkpoint
from outbound.rendering import RenderedEvent


class Window:
    """Events between the watermark, up to which all are settled, and the last that was read.

    An event is settled once it was delivered, or its order was parked.
    """

    def __init__(self, start: Checkpoint) -> None:
        self.read_to = start
        """The checkpoint after which to read on."""
        self._open: dict[Checkpoint, None] = {}  # In commit order.
        self._lanes: dict[str, deque[RenderedEvent]] = {}  # By order.
        self._ready: deque[str] = deque()  # Orders of which no event is on its way.
        # By order, the last event that was delivered: some are beyond the watermark.
        self._delivered: dict[str, tuple[int, Checkpoint]] = {}

    def __len__(self) -> int:
        """How many events and orders it remembers."""
        return len(self._open) + len(self._delivered)

    @property
    def watermark(self) -> Checkpoint:
        """The last checkpoint up to which all events are settled."""
        for first in self._open:
            return Checkpoint(first.transaction_id, first.position - 1)
        return self.read_to

    @property
    def ready_orders(self) -> int:
        """How many orders have an event that can be taken."""
        return len(self._ready)

    @property
    def has_open(self) -> bool:
        """Whether it has events that are not settled."""
        return bool(self._open)

    def add(self, webhooks: Iterable[RenderedEvent], end: Checkpoint) -> None:
        """Adds events that follow those that it has; all others up to `end` need no delivery."""
        for webhook in webhooks:
            if webhook.version <= self._delivered.get(webhook.order_id, (0, None))[0]:
                continue  # Delivered before the window was rewound.
            self._open[webhook.checkpoint] = None
            if webhook.order_id not in self._lanes:
                self._lanes[webhook.order_id] = deque()
                self._ready.append(webhook.order_id)
            self._lanes[webhook.order_id].append(webhook)
        self.read_to = end

    def take(self) -> RenderedEvent | None:
        """The next event to send; its order waits for `settle`, `put_back` or `drop_order`."""
        return self._lanes[self._ready.popleft()][0] if self._ready else None

    def settle(self, webhook: RenderedEvent) -> None:
        """Records that a taken event was delivered."""
        lane = self._lanes[webhook.order_id]
        del self._open[lane.popleft().checkpoint]
        self.record_delivered(webhook)
        if lane:
            self._ready.append(webhook.order_id)
        else:
            del self._lanes[webhook.order_id]

    def put_back(self, webhook: RenderedEvent) -> None:
        """Returns a taken event, to be sent again after those of other orders."""
        self._ready.append(webhook.order_id)

    def drop_order(self, order_id: str) -> None:
        """Removes all events of an order of which one is taken: it was parked."""
        for webhook in self._lanes.pop(order_id):
            del self._open[webhook.checkpoint]

    def record_delivered(self, webhook: RenderedEvent) -> None:
        """Records that an event was delivered, so that it is not added again."""
        self._delivered[webhook.order_id] = (webhook.version, webhook.checkpoint)

    def rewind(self) -> None:
        """Forgets the events that are not settled: they will be read again. None may be taken."""
        self.read_to = self.watermark
        self._open, self._lanes, self._ready = {}, {}, deque()

    def forget_delivered(self) -> None:
        """Frees the memory of what is before the watermark, which is not read again."""
        watermark = self.watermark
        self._delivered = {o: last for o, last in self._delivered.items() if last[1] > watermark}
