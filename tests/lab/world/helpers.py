"""Two small servers in one process inside the namespace. Run as a script by its path: standard library only.

    helpers.py ROOT OAUTH_IP

- the policy service of each Postfix (SMTPD_POLICY_README), on run/policy-HOST, with rules from
rules-HOST.json;
- an OAuth2 server (RFC 6749 refresh grants, RFC 7662 introspection) on OAUTH_IP:8060, with tokens from
tokens.json.

Both files are read again whenever they have changed, so a test changes them and is heard at once.
"""

import asyncio
import json
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Any

HOSTS = ("relay", "a", "b")


class JsonFile:
    """A file that is parsed again when it has been replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = (0, 0)
        self._value: Any = None

    def read(self) -> Any:
        """The content as it is now."""
        status = self.path.stat()
        if (status.st_ino, status.st_mtime_ns) != self._stamp:
            self._value = json.loads(self.path.read_text())
            self._stamp = (status.st_ino, status.st_mtime_ns)
        return self._value


class PolicyService:
    """Answers one Postfix."""

    def __init__(self, rules: JsonFile) -> None:
        self.rules = rules
        self.first_seen: dict[tuple[str, str, str], float] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: requests of name=value lines, each ended by an empty one."""
        request: dict[str, str] = {}
        while line := await reader.readline():
            name, _, value = line.decode("utf-8", "replace").strip().partition("=")
            if name:
                request[name] = value
                continue
            writer.write(f"action={await self.action(request)}\n\n".encode())
            await writer.drain()
            request = {}
        writer.close()

    async def action(self, request: dict[str, str]) -> str:
        """The first rule that fits the recipient and the stage; DUNNO when there is none."""
        stage = request.get("protocol_state", "").lower().replace("end-of-message", "end")
        recipient = request.get("recipient", "").lower()
        rules = self.rules.read()
        for rule in (*rules.get(recipient, ()), *rules.get("*", ())):
            if rule["stage"] == stage:
                return await self.apply(rule, request)
        return "DUNNO"

    async def apply(self, rule: dict[str, Any], request: dict[str, str]) -> str:
        """Carries one rule out."""
        if rule["kind"] == "delay":
            await asyncio.sleep(rule["seconds"])
            return "DUNNO"
        if rule["kind"] == "greylist":
            key = (request.get("client_address", ""), request.get("sender", ""), request.get("recipient", ""))
            first = self.first_seen.setdefault(key, time.monotonic())
            waited = time.monotonic() - first
            return "DUNNO" if waited >= rule["seconds"] else "451 4.7.1 Greylisted, please try again later"
        return str(rule["action"])


class OAuth:
    """Tokens: name to what introspection says, and refresh tokens to whom they belong."""

    def __init__(self, tokens: JsonFile) -> None:
        self.tokens = tokens

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One HTTP request a connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        length = next((int(h.split(":")[1]) for h in head if h.startswith("content-length:")), 0)
        form = dict(urllib.parse.parse_qsl((await reader.readexactly(length)).decode()))
        status, answer = self.answer(head[0].split(" ")[1], form)
        body = json.dumps(answer).encode()
        start = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(start.encode() + b"Connection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    def answer(self, path: str, form: dict[str, str]) -> tuple[str, dict[str, Any]]:
        """/introspect for Dovecot, /token for clients."""
        known = self.tokens.read()
        if path == "/introspect":
            user = known["access"].get(form.get("token", ""))
            return "200 OK", {"active": user is not None, **({"username": user} if user else {})}
        if path == "/token" and form.get("grant_type") == "refresh_token":
            access = known["refresh"].get(form.get("refresh_token", ""))
            if access is not None:
                return "200 OK", {"access_token": access, "token_type": "Bearer", "expires_in": 3600}
            return "400 Bad Request", {"error": "invalid_grant", "error_description": "refresh token revoked"}
        return "404 Not Found", {"error": "invalid_request"}


async def main(root: Path, ip: str) -> None:
    """For ever."""
    for host in HOSTS:
        path = root / "run" / f"policy-{host}"
        await asyncio.start_unix_server(PolicyService(JsonFile(root / f"rules-{host}.json")).serve, path)
        path.chmod(0o666)
    oauth = OAuth(JsonFile(root / "tokens.json"))
    await asyncio.start_server(oauth.serve, ip, 8060)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
