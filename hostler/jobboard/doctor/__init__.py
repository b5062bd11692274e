"""Comparing records, ZooKeeper, libvirt, file systems and ports of all hosts, and mending what is safely mended.

The doctor reads everything twice where it may change meanwhile, and says nothing of a server that a migration is at
work on. Each host looks at itself: its worker answers (:mod:`.letters`). What is compared with what:

====================  =====================================================================================
:mod:`.at_host`       a host's domains, marked files, receivers: with the records
:mod:`.at_fleet`      the hosts' domains with each other, and hosts that cannot be looked at
:mod:`.at_records`    the records with themselves
:mod:`.at_boards`     ZooKeeper with the records
====================  =====================================================================================

Safe to mend is what is proven garbage: it carries our mark, its migration is over in the records, nobody uses it.
Whoever mends finds the same again first.
"""

from __future__ import annotations

from hostler.jobboard.doctor.findings import Finding, Severity
from hostler.jobboard.doctor.letters import Surgery
from hostler.jobboard.doctor.round import Doctor, Report

__all__ = ["Doctor", "Finding", "Report", "Severity", "Surgery"]
