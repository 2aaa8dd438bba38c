"""``worker``: carrying out what the services that schedule have queued."""

from __future__ import annotations

import os
import signal
from typing import Annotated

import structlog
import typer

from config.logging import configure_logging
from poller.bootstrap import Service, Unusable, spare_the_collector
from poller.cli.failures import BAD_INPUT, Failure
from poller.cli.session import require_configuration


def worker(
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency", min=1, max=100, help="Sources at once; ORDER_SYNC_WORKER_CONCURRENCY by default."
        ),
    ] = None,
) -> None:
    """Carry out the ticks that `run` has queued, with ORDER_SYNC_EXECUTOR=procrastinate. Start any number.

    SIGTERM and Ctrl-C end it within ten seconds, SIGHUP reads accounts and marketplaces again (it also
    notices by itself when their files change). Logs go to standard error.
    """
    with Service(os.environ) as service:
        require_configuration(service)
        settings = service.config.settings
        if settings.executor != "procrastinate":
            raise Failure(
                "there is nothing for a worker to do: with ORDER_SYNC_EXECUTOR=threads `order-sync run` "
                "carries out everything itself; set ORDER_SYNC_EXECUTOR=procrastinate for both.",
                status=BAD_INPUT,
            )
        from poller.service.worker import Worker

        configure_logging(settings.log_format, settings.log_level)
        spare_the_collector()
        working = Worker(service, concurrency or settings.worker_concurrency)
        signal.signal(signal.SIGTERM, lambda *_: service.stop.set())
        signal.signal(signal.SIGINT, lambda *_: service.stop.set())
        signal.signal(signal.SIGHUP, lambda *_: working.ask_reload())
        structlog.get_logger("order_sync").info("starting", process=os.getpid(), role="worker")
        try:
            working.run()
        except Unusable as unusable:
            raise Failure(*unusable.sentences) from None
