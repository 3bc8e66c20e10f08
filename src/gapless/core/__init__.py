"""Decisions: values in, values out. No clock, no I/O, no randomness; time is an argument.

``plan`` steps and the plan as printable data · ``replica`` what state a replica is in ·
``drain`` how a replica goes away · ``restart`` back-off · ``service`` one service in steady state ·
``rollout`` from one generation to the next · ``reconcile`` the whole · ``simulate`` what a step
is expected to do, which turns ``reconcile`` into a complete plan · ``health`` probe verdicts ·
``sizing`` totals against the machine
"""
