"""References to secrets: where a secret is, never what it is, until the moment it is used.

In the file a secret is `{env: NAME}`, `{file: PATH}` or `{credential: NAME}` (systemd's LoadCredential). A
plain string is refused unless `agent.allow_plain_secrets` is true. The value is read anew at each `reveal()`,
so that a rotated file counts at once, and stands in no repr, JSON, error or log.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from probes.errors import ConfigError

Kind = Literal["env", "file", "credential", "plain"]

KINDS: tuple[str, ...] = ("env", "file", "credential")
MAX_BYTES = 64 * 1024
CREDENTIALS = "CREDENTIALS_DIRECTORY"
FORMS = "write {env: NAME}, {file: PATH} or {credential: NAME}"

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@:-]{0,127}")
_FINGERPRINT_KEY = os.urandom(32)  # of this process only: a fingerprint tells a change, and nothing else


class SecretUnavailable(ConfigError):
    """A secret cannot be read."""


def _refuse(what: str, right: str) -> PydanticCustomError:
    return PydanticCustomError("mailcanary", "{what}; {right}", {"what": what, "right": right})


class Secret:
    """Where one secret is found. Equal and hashed by the reference; a plain one also by its value.

    kind: env, file, credential or plain; name: the variable, the absolute path or the credential (empty for a
    plain one); where: `file:line:column: place` of the setting, for errors. Not a dataclass: `asdict` and its
    like would spell a plain one out.
    """

    __slots__ = ("_env", "_plain", "kind", "name", "where")

    def __init__(self, kind: Kind, name: str, plain: str = "", env: Mapping[str, str] | None = None) -> None:
        """plain: the value, for kind plain; env: where variables are found, the process's by default."""
        self.kind = kind
        self.name = name
        self.where = ""
        self._plain = plain
        self._env = os.environ if env is None else env

    def reveal(self) -> str:
        """The secret itself, read now. Raises SecretUnavailable, which names the place, never the value."""
        value = self._value()
        if not value:
            self._fail(f"{self.reference()} is empty")
        return value

    def _value(self) -> str:
        if self.kind == "plain":
            return self._plain
        return self._from_env() if self.kind == "env" else self._from_file(self._path())

    def problem(self) -> str | None:
        """Why `reveal()` would fail, or None."""
        try:
            self.reveal()
        except SecretUnavailable as error:
            return str(error.facts["reason"])
        return None

    def warning(self) -> str | None:
        """What is unsafe about where it is kept (a file that others may read), or None."""
        if self.kind not in ("file", "credential"):
            return None
        try:
            mode = Path(self._path()).stat().st_mode
        except (OSError, ValueError, SecretUnavailable):
            return None
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            return (
                f"{self.reference()} can be read by everyone on this machine (mode {stat.S_IMODE(mode):04o})"
            )
        return None

    def fingerprint(self) -> str:
        """Tells within this process whether the value changed; "" where it cannot be read."""
        try:
            value = self.reveal()
        except SecretUnavailable:
            return ""
        return hmac.new(_FINGERPRINT_KEY, value.encode(), hashlib.sha256).hexdigest()[:16]

    def reference(self) -> str:
        """The reference as people write it, e.g. `{env: SMTP_PASSWORD}`; a plain one is not told."""
        return "a plain secret" if self.kind == "plain" else f"{{{self.kind}: {self.name}}}"

    def __repr__(self) -> str:
        return "Secret(plain: hidden)" if self.kind == "plain" else f"Secret({self.kind}: {self.name})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return (self.kind, self.name, self._plain) == (other.kind, other.name, other._plain)

    def __hash__(self) -> int:
        return hash((self.kind, self.name, self._plain))

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")

    def _fail(self, reason: str) -> NoReturn:
        raise SecretUnavailable(f"{self.where}: {reason}" if self.where else reason, reason=reason)

    def _from_env(self) -> str:
        value = self._env.get(self.name)
        if value is None:
            self._fail(f"the environment has no {self.name}")
        return value

    def _path(self) -> str:
        if self.kind == "file":
            return self.name
        folder = self._env.get(CREDENTIALS)
        if not folder:
            self._fail(f"{self.reference()} needs {CREDENTIALS}, which systemd sets for LoadCredential=")
        return str(Path(folder) / self.name)

    def _from_file(self, path: str) -> str:
        try:
            # Not blocking, for a named pipe without a writer would hold up the load for ever.
            with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    self._fail(f"{self.reference()} is not a regular file")
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            self._fail(f"{self.reference()} cannot be read: {error.strerror or 'no reason given'}")
        if len(data) > MAX_BYTES:
            self._fail(f"{self.reference()} is longer than {MAX_BYTES // 1024} KiB")
        text = _text(data)
        if text is None:
            self._fail(f"{self.reference()} is not UTF-8")
        return text.removesuffix("\n").removesuffix("\r")

    # --- reading the file's form -------------------------------------------------------------------------

    @classmethod
    def read(cls, value: object, context: Mapping[str, Any]) -> Secret:
        """A setting's value as a reference. context: base (the file's folder), env, plain (allowed)."""
        if isinstance(value, Secret):
            return value
        env: Mapping[str, str] = context.get("env", os.environ)
        if isinstance(value, Mapping):
            return cls._read_mapping(value, context, env)
        if not isinstance(value, str):
            raise _refuse("not a secret", FORMS)
        if not context.get("plain"):
            raise _refuse("a plain secret is refused", f"{FORMS}, or set agent.allow_plain_secrets: true")
        return cls("plain", "", value, env)

    @classmethod
    def _read_mapping(
        cls, value: Mapping[Any, Any], context: Mapping[str, Any], env: Mapping[str, str]
    ) -> Secret:
        if len(value) != 1 or not set(value) <= set(KINDS):
            raise _refuse("not a reference to a secret", FORMS)
        ((kind, name),) = value.items()
        if not isinstance(name, str) or not name:
            raise _refuse(f"`{kind}` names nothing", FORMS)
        if kind == "env" and not _ENV_NAME.fullmatch(name):
            raise _refuse(
                "`env` wants the name of an environment variable", "letters, digits and underscores"
            )
        if kind == "credential" and not _CREDENTIAL_NAME.fullmatch(name):
            raise _refuse("`credential` wants a name, not a path", "the name given to LoadCredential=")
        if kind == "file":
            if "\0" in name or "\n" in name:
                raise _refuse("`file` wants a path", "one line, relative to this file or absolute")
            name = str(Path(context.get("base", ".")) / name)
        return cls(kind, name, "", env)

    @classmethod
    def _validate(cls, value: object, info: ValidationInfo) -> Secret:
        return cls.read(value, info.context or {})

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            cls._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(_shown, when_used="always"),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return secret_schema()


def _text(data: bytes) -> str | None:
    """None instead of an exception, which would hold the bytes, even as the context of another."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _shown(secret: Secret) -> object:
    return "**********" if secret.kind == "plain" else {secret.kind: secret.name}


def secret_schema() -> JsonSchemaValue:
    """JSON Schema of a reference to a secret."""
    words = {
        "env": "name of an environment variable",
        "file": "path of a file, relative to the config file",
        "credential": "name of a systemd credential",
    }
    forms = [
        {
            "type": "object",
            "properties": {kind: {"type": "string", "description": text}},
            "required": [kind],
            "additionalProperties": False,
        }
        for kind, text in words.items()
    ]
    plain = {"type": "string", "description": "plain; only with agent.allow_plain_secrets"}
    return {"title": "Secret", "anyOf": [*forms, plain]}


def write_secret(path: Path, value: str) -> None:
    """Writes a secret that only its owner may read, whole or not at all. Raises ConfigError."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise ConfigError(f"the token cannot be written to {path}: {error.strerror}") from None
