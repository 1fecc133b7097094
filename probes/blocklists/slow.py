"""The thorough way to read an answer, for the few that the engine's fast way does not understand."""

from __future__ import annotations

import dns.asyncquery
import dns.exception
import dns.message

from probes.blocklists.wire import name_of
from probes.dns import DnsAnswer, DnsStatus
from probes.dns_client import Nameserver, read_response


def thorough(data: bytes, question: bytes, server: Nameserver) -> DnsAnswer:
    """What a datagram says of the question it answers."""
    name = name_of(question)
    try:
        return read_response(dns.message.from_wire(data), name, "A", str(server))
    except (dns.exception.DNSException, ValueError) as error:
        return DnsAnswer(name, "A", DnsStatus.ERROR, detail=f"{type(error).__name__}: {error}")


async def over_tcp(question: bytes, server: Nameserver, timeout: float) -> DnsAnswer:
    """Asks once more over TCP, as a truncated answer wants it. timeout: seconds."""
    name = name_of(question)
    try:
        query = dns.message.make_query(name, "A")
        response = await dns.asyncquery.tcp(query, server.host, timeout=timeout, port=server.port)
        return read_response(response, name, "A", str(server))
    except (dns.exception.Timeout, TimeoutError):
        return DnsAnswer(name, "A", DnsStatus.TIMEOUT)
    except (dns.exception.DNSException, OSError, EOFError, ValueError) as error:
        return DnsAnswer(name, "A", DnsStatus.ERROR, detail=f"{type(error).__name__}: {error}")
