"""``flup.middleware` ended with flup 0.5; importing it says what to use instead."""

from portico.compat.flup._absent import refusal

raise refusal("middleware")
