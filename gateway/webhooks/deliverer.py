"""Tells webhooks what the registry put out for them: in the background, with bounded patience.

Runs in the supervisor. Each replica takes what is due from the shared outbox, so any of them may deliver.
"""

import asyncio
import logging
from collections.abc import Callable

from gateway.settings import Settings
from gateway.webhooks.addresses import ReceiverUnreachable, UrlNotAllowed
from gateway.webhooks.requests import Answer, WebhookSender, make_call
from registry import webhook_deliveries
from registry.webhook_deliveries import Delivery
from tracking.database import Database
from tracking.errors import ServingError

_log = logging.getLogger(__name__)

_AT_ONCE = 8
_POLL_INTERVAL_S = 0.5
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 300.0
# How much longer than a try may take a delivery belongs to who took it.
_LEASE_MARGIN_S = 30.0


class WebhookDeliverer:
    def __init__(self, settings: Settings, database: Database, *, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._database_away = False

    async def run(self) -> None:
        """Until cancelled. What is under way then is tried again later, by whoever takes it."""
        settings = self._settings
        async with (
            WebhookSender(allow_private=settings.webhook_allow_private, timeout_s=settings.webhook_timeout_s) as sender,
            asyncio.TaskGroup() as group,
        ):
            under_way: set[asyncio.Task[None]] = set()
            while True:
                for delivery in await self._take(_AT_ONCE - len(under_way)):
                    task = group.create_task(self._deliver(sender, delivery))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                if len(under_way) < _AT_ONCE:
                    await asyncio.sleep(_POLL_INTERVAL_S)
                else:
                    await asyncio.wait(set(under_way), return_when=asyncio.FIRST_COMPLETED)

    async def _take(self, at_most: int) -> list[Delivery]:
        try:
            taken = await asyncio.to_thread(self._take_due, at_most)
        except ServingError as error:
            # Once for each time that it goes, not twice a second.
            if not self._database_away:
                _log.warning("webhooks_not_told", extra={"reason": error.message})
            self._database_away = True
            return []
        self._database_away = False
        return taken

    def _take_due(self, at_most: int) -> list[Delivery]:
        with self._database.reading() as session:
            if not webhook_deliveries.any_due(session, now_ms=self._database.now_ms(session)):
                return []
        with self._database.writing() as session:
            # The database's clock, because the lease is one between replicas.
            now_ms = self._database.now_ms(session)
            lease_ms = int((self._settings.webhook_timeout_s + _LEASE_MARGIN_S) * 1000)
            return webhook_deliveries.take_due(session, now_ms=now_ms, until_ms=now_ms + lease_ms, at_most=at_most)

    async def _deliver(self, sender: WebhookSender, delivery: Delivery) -> None:
        try:
            outcome = await self._send(sender, delivery)
            await asyncio.to_thread(self._note, delivery, outcome)
        except ServingError as error:
            # Its lease runs out, and it is told once more: at least once is what is promised.
            _log.warning("webhooks_not_told", extra={"reason": error.message})
        except Exception:
            # One delivery that hits a fault of ours must not keep all others from being made.
            _log.exception("webhook_delivery_failed", extra={"webhook": delivery.webhook_id})

    async def _send(self, sender: WebhookSender, delivery: Delivery) -> Answer | ServingError:
        call = make_call(
            delivery.url,
            delivery.secret,
            delivery_id=delivery.delivery_id,
            event=delivery.event,
            data=delivery.data,
            at_s=delivery.first_tried_ms / 1000,
            now_s=self._clock(),
        )
        try:
            return await sender.send(call)
        except (UrlNotAllowed, ReceiverUnreachable) as error:
            return error

    def _note(self, delivery: Delivery, outcome: Answer | ServingError) -> None:
        pause_s = next_pause_s(delivery.tries, outcome, tries_max=self._settings.webhook_tries_max)
        with self._database.writing() as session:
            if pause_s is None:
                webhook_deliveries.settle(session, delivery.delivery_id)
            else:
                due_ms = self._database.now_ms(session) + int(pause_s * 1000)
                webhook_deliveries.postpone(session, delivery.delivery_id, due_ms)
        if pause_s is None and not (isinstance(outcome, Answer) and outcome.accepted):
            reason = f"status {outcome.status}" if isinstance(outcome, Answer) else outcome.message
            said = {"webhook": delivery.webhook_id, "of": delivery.event.value, "tries": delivery.tries}
            _log.warning("webhook_given_up", extra={**said, "reason": reason})


def next_pause_s(tries: int, outcome: Answer | ServingError, *, tries_max: int) -> float | None:
    """How long to wait before the next try; None if there is none: it was told, or it is hopeless."""
    if isinstance(outcome, Answer) and not outcome.worth_another_try:
        return None
    if isinstance(outcome, UrlNotAllowed) or tries >= tries_max:
        return None
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (tries - 1))
