"""Who is asking, and may they: sessions, tokens, CSRF, rate limits and lock-out."""

import hmac
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio
import anyio.to_thread
from fastapi import HTTPException, Request

from gateway.console.config import ConsoleConfig
from gateway.console.sessions import Session
from gateway.console.trail import AuditEntry
from gateway.console.vault import Role, User, Vault
from gateway.core.texts import Phrase

T = TypeVar("T")

COOKIE = "forewarn_session"
CSRF_HEADER = "X-CSRF-Token"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
FAILS_MAX = 5
"""Wrong passwords for one name from one address before it is locked out."""
FAILS_NAME_MAX = 20
"""The same from anywhere."""
TRIES_MAX = 30
"""Sign-ins tried from one address, right or wrong, within `LOCK_S`."""
LOCK_S = 900.0
KEYS_MAX = 10_000
HASHES_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Actor:
    """Who is asking."""

    name: str
    role: Role
    via: str
    """`session`, `token` or `anonymous`."""
    csrf: str = ""


class Window:
    """Counts events by key over the last `span_s`, for at most `KEYS_MAX` keys."""

    def __init__(self, limit: int, span_s: float, now_s: Callable[[], float]) -> None:
        self._limit = limit
        self._span_s = span_s
        self._now_s = now_s
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def add(self, key: str) -> None:
        """Count one."""
        times = self._times.setdefault(key, deque(maxlen=self._limit))
        self._times.move_to_end(key)
        times.append(self._now_s())
        while len(self._times) > KEYS_MAX:
            self._times.popitem(last=False)

    def wait_s(self, key: str) -> float:
        """How long until another one is allowed; 0 when it is now."""
        times = self._times.get(key)
        if times is None or len(times) < self._limit:
            return 0.0
        return max(0.0, times[0] + self._span_s - self._now_s())

    def forget(self, key: str) -> None:
        """Count from zero again."""
        self._times.pop(key, None)


class LockedOut(Exception):
    """Too many tries; carries how long to wait."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many tries; wait {wait_s:.0f} s")
        self.wait_s = wait_s


class Guard:
    """Answers for one console. All of its questions cost microseconds, but a password's."""

    def __init__(
        self, config: ConsoleConfig, vault: Vault, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.config = config
        self.vault = vault
        self._fails = Window(FAILS_MAX, LOCK_S, now_s)
        self._fails_name = Window(FAILS_NAME_MAX, LOCK_S, now_s)
        self._tries = Window(TRIES_MAX, LOCK_S, now_s)
        self._hashing = anyio.CapacityLimiter(HASHES_AT_ONCE)
        self.setup_secret = "" if vault.users() else secrets.token_urlsafe(24)

    # Signing in

    async def sign_in(self, name: str, password: str, address: str) -> str | None:
        """The secret for a new session's cookie; None where name or password are wrong.

        Raises:
            LockedOut: Too many tries for this name or from this address.
        """
        name = name.strip()[:200]
        pair, by_name = f"{address}\0{name.casefold()}", name.casefold()
        waits = (
            self._fails.wait_s(pair),
            self._fails_name.wait_s(by_name),
            self._tries.wait_s(address),
        )
        if max(waits) > 0:
            await self.audit(name, "session", address, "sign-in", outcome="locked out")
            raise LockedOut(max(waits))
        self._tries.add(address)
        # Counted before the hash is checked, so that many tries at once gain nothing.
        self._fails.add(pair)
        self._fails_name.add(by_name)
        user = await self.hashed(lambda: self.vault.verify(name, password))
        if user is None:
            await self.audit(name, "session", address, "sign-in", outcome="wrong name or password")
            return None
        self._fails.forget(pair)
        self._fails_name.forget(by_name)
        return await self.begin(user, address)

    async def begin(self, user: User, address: str) -> str:
        """Begin a session for a person who has proven who they are."""
        secret, _ = await anyio.to_thread.run_sync(self.vault.sessions.begin, user.name)
        await self.audit(user.name, "session", address, "sign-in", outcome="done")
        return secret

    async def set_up(self, secret: str, name: str, password: str, address: str) -> str | None:
        """Make the first engineer by the one-time link, and sign them in; None: not that link.

        Raises:
            Refused: Name or password will not do, or there is somebody already.
            LockedOut: Too many tries from this address.
        """
        if (wait_s := self._tries.wait_s(address)) > 0:
            raise LockedOut(wait_s)
        self._tries.add(address)
        if not self.opens_setup(secret):
            await self.audit("", "link", address, "set-up", outcome="wrong link")
            return None
        user = await self.hashed(lambda: self.vault.add_first_user(name, password))
        self.setup_secret = ""
        await self.audit(user.name, "link", address, "set-up", outcome="done")
        return await self.begin(user, address)

    def opens_setup(self, secret: str) -> bool:
        """Whether this is the one-time link, and it is still open."""
        return bool(self.setup_secret) and hmac.compare_digest(
            secret.encode("utf-8", "replace"), self.setup_secret.encode()
        )

    async def hashed(self, work: Callable[[], T]) -> T:
        """Run something that hashes a password: beside the loop, few at a time."""
        return await anyio.to_thread.run_sync(work, limiter=self._hashing)

    # Every request

    def actor(self, request: Request, *, touch: bool = True) -> Actor | None:
        """Who is asking; None for a stranger where strangers see nothing."""
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme:
            token = self.vault.find_token(secret.strip()) if scheme.lower() == "bearer" else None
            return Actor(f"token:{token.name}", token.role, "token") if token else None
        found = self._session(request, touch=touch)
        if found is not None:
            session, user = found
            return Actor(user.name, user.role, "session", session.csrf)
        if self.config.anonymous_viewer:
            return Actor("", Role.VIEWER, "anonymous")
        return None

    def _session(self, request: Request, *, touch: bool) -> tuple[Session, User] | None:
        secret = request.cookies.get(COOKIE, "")
        if not secret:
            return None
        return self.vault.find_session(
            secret,
            idle_s=self.config.session_idle_s,
            max_s=self.config.session_max_s,
            touch=touch,
        )

    async def audit(
        self,
        who: str,
        via: str,
        address: str,
        action: str,
        *,
        target: str = "",
        note: str = "",
        outcome: str = "done",
    ) -> None:
        """Keep what somebody did, or was refused; it is on disk when this returns."""
        entry = AuditEntry(time.time_ns(), who, via, address, action, target, note, outcome)
        await anyio.to_thread.run_sync(self.vault.trail.add, entry)


def address_of(request: Request) -> str:
    """The peer's address; a trusted proxy's headers have been applied by then."""
    return request.client.host if request.client else "?"


def check_csrf(request: Request, actor: Actor, given: str | None) -> None:
    """Refuse a change that another site made the browser ask for.

    Raises:
        HTTPException: 403.
    """
    if request.method in SAFE or actor.via == "token":
        return
    check_origin(request)
    token = given if given is not None else request.headers.get(CSRF_HEADER, "")
    if not actor.csrf or not hmac.compare_digest(
        token.encode("utf-8", "replace"), actor.csrf.encode()
    ):
        raise HTTPException(403, Phrase("error.out_of_date"))


def check_origin(request: Request) -> None:
    """Refuse what the browser says comes from another site."""
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site", "same-origin")
    host = request.headers.get("host", "")
    foreign = origin is not None and origin.partition("://")[2] != host
    if foreign or site not in ("same-origin", "none"):
        raise HTTPException(403, Phrase("error.other_site"))


def require(role: Role) -> Callable[[Request], Awaitable[Actor]]:
    """A FastAPI dependency: somebody with at least this role, and no forgery."""

    async def dependency(request: Request) -> Actor:
        guard: Guard = request.app.state.guard
        actor = guard.actor(request)
        if actor is None:
            raise HTTPException(401, Phrase("error.sign_in"), {"WWW-Authenticate": "Bearer"})
        check_csrf(request, actor, None)
        if actor.role < role:
            await guard.audit(
                actor.name,
                actor.via,
                address_of(request),
                f"{request.method} {request.url.path}",
                outcome=f"refused: needs {role.word}",
            )
            raise HTTPException(403, Phrase("error.role", role=Phrase(f"role.{role.word}")))
        return actor

    return dependency
