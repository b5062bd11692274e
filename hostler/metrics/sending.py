"""What a host sends, counted as it leaves."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from hostler.drivers.images import Checkpoint, ImageSender, ProgressListener
from hostler.drivers.images.pace import Pace
from hostler.metrics.meter import Meter
from hostler.objects import CopyProgress, ImageDigest, ReceiverAddress


class CountedSender:
    """A sender that tells the meter what it sends, and is otherwise the one that it was given."""

    def __init__(self, sender: ImageSender, meter: Meter) -> None:
        self._sender = sender
        self._meter = meter
        self._rates: dict[tuple[str, str], float] = {}  #: bytes a second by migration and export
        self._lock = threading.Lock()
        meter.send_rate.set_function(self._rate)

    def send(
        self,
        address: ReceiverAddress,
        progress: ProgressListener,
        checkpoint: Checkpoint,
        timeout_s: float,
        pace: Pace | None = None,
    ) -> list[ImageDigest]:
        """See :meth:`hostler.drivers.images.ImageSender.send`."""
        sent: dict[str, int] = {}

        def counted(now: CopyProgress) -> None:
            self._meter.sent_bytes.inc(max(now.sent_bytes - sent.get(now.name, 0), 0))
            sent[now.name] = max(now.sent_bytes, sent.get(now.name, 0))
            with self._lock:
                self._rates[address.username, now.name] = now.rate_bytes_per_s
            progress(now)

        with self._meter.copies.track_inprogress():
            try:
                return self._sender.send(address, counted, checkpoint, timeout_s, pace)
            finally:
                with self._lock:
                    for name in sent:
                        self._rates.pop((address.username, name), None)

    def mend(
        self,
        address: ReceiverAddress,
        left: Sequence[ImageDigest],
        checkpoint: Checkpoint,
        timeout_s: float,
        pace: Pace | None = None,
    ) -> int:
        """See :meth:`hostler.drivers.images.ImageSender.mend`."""
        mended = self._sender.mend(address, left, checkpoint, timeout_s, pace)
        self._meter.mended_blocks.inc(mended)
        return mended

    def certificate(self) -> str:
        """See :meth:`hostler.drivers.images.ImageSender.certificate`."""
        return self._sender.certificate()

    def _rate(self) -> float:
        with self._lock:
            return sum(self._rates.values())
