"""Chaos on the lab: real guests move while everything around them dies, at moments that a seed chooses.

====================  ================================================================================
``chaos.plan``        what a seed and a round's number say: which servers move, what strikes them, when
``chaos.faults``      the faults: how each strikes, and how it is healed
``chaos.telegraph``   tells when a step of a migration begins, within milliseconds
``chaos.office``      the operator: commands of hostler, typed outside both hosts
``chaos.yard``        the lab with its servers, and what restarts workers as systemd would
``chaos.witness``     looks ten times a second whether a server executes twice
``chaos.journal``     what the guests wrote: every acknowledged write must be there at every later boot
``chaos.verdict``     what must hold after a round: one copy of each server, sound, and no orphans
``chaos.rounds``      a round, carried out
====================  ================================================================================

``python -m tests.chaos`` runs it; ``HOSTLER_CHAOS_SEED`` and ``HOSTLER_CHAOS_ROUNDS`` say what, and
``HOSTLER_CHAOS_ROUND`` begins with that round, so that a failure is had again without those before it.
"""
