"""A real mail world on loopback: Postfix, Dovecot, rspamd, SpamAssassin, OpenDKIM, OpenDMARC, Knot,
Unbound, rbldnsd.

Use it from tests through the session fixture ``lab``, elsewhere with ``with Lab.start() as lab``.
"""
