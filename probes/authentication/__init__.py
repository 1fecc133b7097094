"""Our own SPF, DKIM, ARC and DMARC evaluation of messages as received, and DKIM signing for senders."""
