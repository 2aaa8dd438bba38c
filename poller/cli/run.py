"""``order-sync run``: the service, until it is stopped."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import structlog

from config.logging import configure_logging
from poller.bootstrap import Service, Unusable, spare_the_collector
from poller.cli.failures import Failure
from poller.cli.session import check_place, require_configuration
from poller.service.schedule import Schedule

if TYPE_CHECKING:
    from poller.web.server import WebServer


def run() -> None:
    """The service: keeps orders and customers up to date until it is stopped.

    SIGTERM and Ctrl-C end it within ten seconds, SIGHUP reads accounts and marketplaces again (it also
    notices by itself when their files change). Serves HTTP on ORDER_SYNC_LISTEN. Logs go to standard error.
    """
    with Service(os.environ) as service:
        require_configuration(service)
        settings = service.config.settings
        check_place(settings.database_url.get_secret_value(), create=True)
        configure_logging(settings.log_format, settings.log_level)
        spare_the_collector()
        web = _listening(service)
        schedule = Schedule(service)
        signal.signal(signal.SIGTERM, lambda *_: service.stop.set())
        signal.signal(signal.SIGINT, lambda *_: service.stop.set())
        signal.signal(signal.SIGHUP, lambda *_: schedule.ask_reload())
        structlog.get_logger("order_sync").info("starting", process=os.getpid())
        if web is not None:
            web.start()
        try:
            schedule.run()
        except Unusable as unusable:
            raise Failure(*unusable.sentences) from None
        finally:
            service.stop.set()
            ended = web is None or web.join()
        if not ended:
            os._exit(0)  # an answer that still waits for Amazon cannot be ended otherwise


def _listening(service: Service) -> WebServer | None:
    """What serves HTTP, already listening. Raises Failure when the address cannot be had."""
    if service.config.settings.listen is None:
        return None
    from poller.web.server import CannotListen, WebServer, listen  # heavy: other commands do without

    try:
        return WebServer(service, listen(*service.config.settings.listen))
    except CannotListen as fault:
        raise Failure(str(fault)) from None
